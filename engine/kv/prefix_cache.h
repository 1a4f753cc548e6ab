// PrefixCache: which pages hold the K and V of which prefix, so that the next request with it need not compute them.
// Engine thread.
//
// Full layers' pages form chains: a cached page holds one whole page of tokens after its parent's. Found by a keyed
// hash of the whole prefix (prefix_hash.h), confirmed by parent and tokens. Window layers keep only the last tokens, so
// a prefix can be continued where a *snapshot* holds the window pages before a restart point (the end of a cached
// page), or after a bounded suffix was run again (block_manager.h).
//
// A page that nobody owns can be evicted, least recently used first. Children go before their parents: whoever owns a
// page owns those before it, and lets go of the last one first. Snapshots can always be evicted and go with their
// page. Window pages that two snapshots hold are held twice.
//
// What is known of a page stands in arrays by page id, made with the arena: 21 bytes a page beside its tokens.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "engine/kv/arena.h"
#include "engine/kv/prefix_hash.h"
#include "engine/schedule/step_plan.h"

namespace hysparse {

// Why a lookup found less than it might have.
enum class PrefixMiss : uint8_t { kNone, kCold, kEvicted };

struct PrefixMatch {
  std::vector<int32_t> pages;           // of the prompt's first tokens
  PrefixMiss miss = PrefixMiss::kNone;  // of the page after them
};

class PrefixCache : public Arena::Watcher {
 public:
  struct Snapshot {
    int32_t global_page = -1;    // whose end it is
    int32_t first_page = 0;      // logical page of pages[0]
    std::vector<int32_t> pages;  // of the window class
  };

  // The arena outlives the cache; the cache is its watcher.
  PrefixCache(Arena* arena, PrefixHash hash);
  ~PrefixCache() override { arena_->set_watcher(nullptr); }

  const PrefixHash& hash() const { return hash_; }

  // The longest chain for `hashes`, one for each whole page of `tokens`.
  PrefixMatch Find(const CacheSalt& salt, std::span<const uint64_t> hashes, std::span<const int32_t> tokens) const;

  // Caches `page`, which holds `tokens` after the cached page `parent` (-1: none); `hash` is the prefix's. Where the
  // cache has such a page already, that one is returned: it holds the same bits.
  int32_t Insert(const CacheSalt& salt, uint64_t hash, int32_t parent, std::span<const int32_t> tokens, int32_t page);
  bool Has(int32_t page) const { return parent_[page] != kNoPage; }

  // Replaces the cached page's snapshot, if any. `pages` are window pages that the caller owns.
  void AddSnapshot(int32_t global_page, int32_t first_page, std::span<const int32_t> pages);
  // Null: none. Counts as a use.
  const Snapshot* UseSnapshot(int32_t global_page);

  // Gives up what costs least to make again of what was used least recently: of the global class a page that nobody
  // owns (with its snapshot), of the window class a snapshot. False when there is none.
  bool EvictOne(KvClass kv_class);
  // Pages of one slab took other numbers. O(pages of the class).
  void Renumber(KvClass kv_class, std::span<const PageCopy> moves);

  void OnCached(KvClass kv_class, int32_t page) override;
  void OnUncached(KvClass kv_class, int32_t page) override;

  int64_t num_pages() const { return num_pages_; }
  int64_t num_snapshots() const { return static_cast<int64_t>(snapshot_of_.size()); }
  // That every cached page is found, after its parent. O(pages).
  absl::Status Check() const;

 private:
  // Doubly linked through its members' own links; entry 0 of `links` is the list's head.
  struct Links {
    int32_t previous = 0, next = 0;
  };
  struct LruList {
    std::vector<Links> links{1};
    void PushBack(int32_t i);
    void Remove(int32_t i);
    void Renumber(int32_t from, int32_t to);  // in its place
    bool Holds(int32_t i) const {
      return links[i + 1].next != 0 || links[i + 1].previous != 0 || links[0].next == i + 1;
    }
    int32_t Front() const { return links[0].next - 1; }
  };
  static constexpr int32_t kNoPage = std::numeric_limits<int32_t>::min();
  // A chain's first page has the salt in its parent's place.
  static int32_t ParentOf(const CacheSalt& salt, int32_t parent) {
    return parent >= 0 ? parent : -1 - static_cast<int32_t>(salt.tag >> 34);
  }
  static uint32_t Short(uint64_t hash) { return static_cast<uint32_t>(hash >> 32); }
  std::span<int32_t> TokensOf(int32_t page) const;
  // Where the cached page stands, or the free slot where it belongs.
  size_t SlotOf(uint32_t hash, int32_t parent, std::span<const int32_t> tokens) const;
  size_t SlotOf(int32_t page) const;  // cached
  void FreeSlot(size_t slot);
  size_t Home(uint32_t hash) const { return static_cast<size_t>(uint64_t{hash} * slots_.size() >> 32); }
  size_t Next(size_t slot) const { return slot + 1 == slots_.size() ? 0 : slot + 1; }
  void Forget(int32_t page);
  void DropSnapshot(int32_t snapshot);
  void MoveEntry(int32_t from, int32_t to);

  Arena* arena_;
  PrefixHash hash_;
  // [global pages]
  std::vector<uint32_t> hash_of_;
  std::vector<int32_t> parent_;  // kNoPage: not cached
  LruList unowned_;              // cached pages that nobody owns
  std::unique_ptr<int32_t[]> tokens_;
  std::vector<int32_t> slots_;  // a cached page or -1, from its hash's home on: linear probing
  int64_t num_pages_ = 0;
  std::vector<Snapshot> snapshots_;
  std::vector<int32_t> free_snapshots_;
  absl::flat_hash_map<int32_t, int32_t> snapshot_of_;  // by global page
  LruList snapshot_use_;
  // Hashes of pages evicted lately, each at its remainder, to tell a miss from one that never was there.
  std::vector<uint32_t> evicted_;
};

}  // namespace hysparse
