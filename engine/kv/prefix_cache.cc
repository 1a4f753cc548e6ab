#include "engine/kv/prefix_cache.h"

#include <algorithm>
#include <utility>

namespace hysparse {
namespace {

constexpr size_t kEvictedKept = 65536;

}  // namespace

void PrefixCache::LruList::PushBack(int32_t i) {
  const int32_t at = i + 1, last = links[0].previous;
  links[at] = {last, 0};
  links[last].next = at;
  links[0].previous = at;
}

void PrefixCache::LruList::Remove(int32_t i) {
  const Links link = std::exchange(links[i + 1], Links{});
  links[link.previous].next = link.next;
  links[link.next].previous = link.previous;
}

PrefixCache::PrefixCache(Arena* arena, PrefixHash hash)
    : arena_(arena), hash_(hash), node_of_page_(static_cast<size_t>(arena->layout().page_ids(KvClass::kGlobal)), -1) {
  arena_->set_watcher(this);
}

bool PrefixCache::Is(int32_t node, const CacheSalt& salt, int32_t parent, std::span<const int32_t> tokens) const {
  const Node& at = nodes_[node];
  if (at.parent != parent || (parent < 0 && at.salt_tag != salt.tag)) return false;
  const auto size = static_cast<size_t>(hash_.page_tokens());
  return std::equal(tokens.begin(), tokens.end(), tokens_.begin() + static_cast<int64_t>(size) * node);
}

PrefixMatch PrefixCache::Find(const CacheSalt& salt, std::span<const uint64_t> hashes,
                              std::span<const int32_t> tokens) {
  PrefixMatch match;
  match.nodes.reserve(hashes.size());
  const auto size = static_cast<size_t>(hash_.page_tokens());
  int32_t parent = -1;
  for (size_t i = 0; i < hashes.size(); ++i) {
    const auto found = node_of_hash_.find(hashes[i]);
    if (found == node_of_hash_.end() || !Is(found->second, salt, parent, tokens.subspan(i * size, size))) {
      match.miss = evicted_.contains(hashes[i]) ? PrefixMiss::kEvicted : PrefixMiss::kCold;
      break;
    }
    match.nodes.push_back(parent = found->second);
  }
  return match;
}

int32_t PrefixCache::Insert(const CacheSalt& salt, int32_t parent, std::span<const int32_t> tokens, int32_t page) {
  const uint64_t hash = hash_.Extend(HashOf(salt, parent), tokens);
  const auto [entry, added] = node_of_hash_.try_emplace(hash, -1);
  if (!added) {
    if (Is(entry->second, salt, parent, tokens)) return entry->second;
    return -1;  // two prefixes of one hash: the first keeps it
  }
  int32_t node = static_cast<int32_t>(nodes_.size());
  if (free_nodes_.empty()) {
    nodes_.emplace_back();
    unowned_.links.emplace_back();
    tokens_.resize(tokens_.size() + static_cast<size_t>(hash_.page_tokens()));
  } else {
    node = free_nodes_.back();
    free_nodes_.pop_back();
  }
  entry->second = node;
  nodes_[node] = {hash, parent < 0 ? salt.tag : 0, parent, page};
  std::copy(tokens.begin(), tokens.end(), tokens_.begin() + int64_t{hash_.page_tokens()} * node);
  node_of_page_[page] = node;
  arena_->Cache(KvClass::kGlobal, page);
  return node;
}

void PrefixCache::Forget(int32_t node) {
  if (const auto found = snapshot_of_node_.find(node); found != snapshot_of_node_.end()) DropSnapshot(found->second);
  const Node gone = nodes_[node];
  node_of_hash_.erase(gone.hash);
  node_of_page_[gone.page] = -1;
  nodes_[node] = Node{};
  free_nodes_.push_back(node);
  if (unowned_.Holds(node)) unowned_.Remove(node);
  if (evicted_.insert(gone.hash).second) evicted_order_.push_back(gone.hash);
  if (evicted_order_.size() > kEvictedKept) {
    evicted_.erase(evicted_order_.front());
    evicted_order_.pop_front();
  }
  arena_->Uncache(KvClass::kGlobal, gone.page);
}

void PrefixCache::AddSnapshot(int32_t node, int32_t first_page, std::span<const int32_t> pages) {
  if (const auto found = snapshot_of_node_.find(node); found != snapshot_of_node_.end()) DropSnapshot(found->second);
  int32_t snapshot = static_cast<int32_t>(snapshots_.size());
  if (free_snapshots_.empty()) {
    snapshots_.emplace_back();
    snapshot_use_.links.emplace_back();
  } else {
    snapshot = free_snapshots_.back();
    free_snapshots_.pop_back();
  }
  snapshots_[snapshot] = {node, first_page, {pages.begin(), pages.end()}};
  snapshot_of_node_[node] = snapshot;
  snapshot_use_.PushBack(snapshot);
  for (const int32_t page : pages) arena_->Cache(KvClass::kWindow, page);
}

const PrefixCache::Snapshot* PrefixCache::UseSnapshot(int32_t node) {
  const auto found = snapshot_of_node_.find(node);
  if (found == snapshot_of_node_.end()) return nullptr;
  snapshot_use_.Remove(found->second);
  snapshot_use_.PushBack(found->second);
  return &snapshots_[found->second];
}

void PrefixCache::DropSnapshot(int32_t snapshot) {
  const Snapshot gone = std::exchange(snapshots_[snapshot], Snapshot{});
  snapshot_of_node_.erase(gone.node);
  snapshot_use_.Remove(snapshot);
  free_snapshots_.push_back(snapshot);
  for (const int32_t page : gone.pages) arena_->Uncache(KvClass::kWindow, page);
}

bool PrefixCache::EvictOne(KvClass kv_class) {
  const int32_t oldest = kv_class == KvClass::kGlobal ? unowned_.Front() : snapshot_use_.Front();
  if (oldest < 0) return false;
  kv_class == KvClass::kGlobal ? Forget(oldest) : DropSnapshot(oldest);
  return true;
}

void PrefixCache::Renumber(KvClass kv_class, int32_t from, int32_t to) {
  if (kv_class == KvClass::kGlobal) {
    const int32_t node = std::exchange(node_of_page_[from], -1);
    node_of_page_[to] = node;
    if (node >= 0) nodes_[node].page = to;
    return;
  }
  for (Snapshot& snapshot : snapshots_) std::replace(snapshot.pages.begin(), snapshot.pages.end(), from, to);
}

void PrefixCache::OnCached(KvClass kv_class, int32_t page) {
  if (kv_class == KvClass::kGlobal) unowned_.PushBack(node_of_page_[page]);
}

void PrefixCache::OnUncached(KvClass kv_class, int32_t page) {
  if (kv_class != KvClass::kGlobal) return;
  const int32_t node = node_of_page_[page];
  if (node >= 0 && unowned_.Holds(node)) unowned_.Remove(node);
}

}  // namespace hysparse
