// PrefixCache: which pages hold the K and V of which prefix, so that the next request with it need not compute them.
// Engine thread.
//
// Full layers' pages are *nodes* of chains: a node is one whole page of tokens after its parent's. Found by a keyed
// hash of the whole prefix (prefix_hash.h), confirmed by parent and tokens. Window layers keep only the last tokens, so
// a prefix can be continued where a *snapshot* holds the window pages before a restart point (the end of a node), or
// after a bounded suffix was run again (block_manager.h).
//
// A node whose page nobody owns can be evicted, least recently used first and leaves before their parents (an owner
// lets go of its last page first). Snapshots can always be evicted and go with their node. Window pages that two
// snapshots hold are held twice.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "engine/kv/arena.h"
#include "engine/kv/prefix_hash.h"

namespace hysparse {

// Why a lookup found less than it might have.
enum class PrefixMiss : uint8_t { kNone, kCold, kEvicted };

struct PrefixMatch {
  std::vector<int32_t> nodes;           // of the prompt's first pages
  PrefixMiss miss = PrefixMiss::kNone;  // of the page after them
};

class PrefixCache : public Arena::Watcher {
 public:
  struct Snapshot {
    int32_t node = -1;
    int32_t first_page = 0;      // logical page of pages[0]
    std::vector<int32_t> pages;  // up to the end of the node
  };

  // The arena outlives the cache; the cache is its watcher.
  PrefixCache(Arena* arena, PrefixHash hash);
  ~PrefixCache() override { arena_->set_watcher(nullptr); }

  const PrefixHash& hash() const { return hash_; }

  // The longest chain for `hashes`, one for each whole page of `tokens`.
  PrefixMatch Find(const CacheSalt& salt, std::span<const uint64_t> hashes, std::span<const int32_t> tokens);

  // The node for `page`'s tokens after `parent` (-1: none). Where the cache has one already, that one: its page differs
  // from `page` then, and holds the same bits.
  int32_t Insert(const CacheSalt& salt, int32_t parent, std::span<const int32_t> tokens, int32_t page);
  int32_t page(int32_t node) const { return nodes_[node].page; }
  // The node that `page` belongs to, -1: none.
  int32_t NodeOf(int32_t page) const { return node_of_page_[page]; }
  uint64_t HashOf(const CacheSalt& salt, int32_t node) const { return node < 0 ? salt.seed : nodes_[node].hash; }

  // Replaces the node's snapshot, if any. `pages` are window pages that the caller owns.
  void AddSnapshot(int32_t node, int32_t first_page, std::span<const int32_t> pages);
  // Null: none. Counts as a use.
  const Snapshot* UseSnapshot(int32_t node);
  bool HasSnapshot(int32_t node) const { return snapshot_of_node_.contains(node); }

  // Gives up what costs least to make again of what was used least recently: of the global class a page that nobody
  // owns (with its snapshot), of the window class a snapshot. False when there is none.
  bool EvictOne(KvClass kv_class);
  // A page of the arena took another number.
  void Renumber(KvClass kv_class, int32_t from, int32_t to);

  void OnCached(KvClass kv_class, int32_t page) override;
  void OnUncached(KvClass kv_class, int32_t page) override;

  int64_t num_nodes() const { return static_cast<int64_t>(nodes_.size() - free_nodes_.size()); }
  int64_t num_snapshots() const { return static_cast<int64_t>(snapshot_of_node_.size()); }

 private:
  // Doubly linked through its members' own links; entry 0 of `links` is the list's head.
  struct Links {
    int32_t previous = 0, next = 0;
  };
  struct LruList {
    std::vector<Links> links{1};
    void PushBack(int32_t i);
    void Remove(int32_t i);
    bool Holds(int32_t i) const {
      return links[i + 1].next != 0 || links[i + 1].previous != 0 || links[0].next == i + 1;
    }
    int32_t Front() const { return links[0].next - 1; }
  };
  struct Node {
    uint64_t hash = 0;
    uint64_t salt_tag = 0;  // of a chain's first node
    int32_t parent = -1, page = -1;
  };

  bool Is(int32_t node, const CacheSalt& salt, int32_t parent, std::span<const int32_t> tokens) const;
  void Forget(int32_t node);
  void DropSnapshot(int32_t snapshot);

  Arena* arena_;
  PrefixHash hash_;
  std::vector<Node> nodes_;
  std::vector<int32_t> tokens_;  // [nodes, page_tokens]
  std::vector<int32_t> free_nodes_;
  std::vector<int32_t> node_of_page_;  // [global pages]
  absl::flat_hash_map<uint64_t, int32_t> node_of_hash_;
  LruList unowned_;  // nodes whose page nobody owns
  std::vector<Snapshot> snapshots_;
  std::vector<int32_t> free_snapshots_;
  absl::flat_hash_map<int32_t, int32_t> snapshot_of_node_;
  LruList snapshot_use_;
  // Hashes of nodes evicted lately, to tell a miss from one that never was there.
  absl::flat_hash_set<uint64_t> evicted_;
  std::deque<uint64_t> evicted_order_;
};

}  // namespace hysparse
