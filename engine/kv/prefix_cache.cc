#include "engine/kv/prefix_cache.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

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

void PrefixCache::LruList::Renumber(int32_t from, int32_t to) {
  const Links link = links[to + 1] = std::exchange(links[from + 1], Links{});
  links[link.previous].next = links[link.next].previous = to + 1;
}

PrefixCache::PrefixCache(Arena* arena, PrefixHash hash)
    : arena_(arena),
      hash_(hash),
      hash_of_(static_cast<size_t>(arena->layout().page_ids(KvClass::kGlobal))),
      parent_(hash_of_.size(), kNoPage),
      // Written before it is read: memory that no page uses is never touched.
      tokens_(std::make_unique_for_overwrite<int32_t[]>(hash_of_.size() * static_cast<size_t>(hash.page_tokens()))),
      slots_(hash_of_.size() + hash_of_.size() / 4 + 1, -1),
      evicted_(kEvictedKept) {
  unowned_.links.resize(hash_of_.size() + 1);
  arena_->set_watcher(this);
}

std::span<int32_t> PrefixCache::TokensOf(int32_t page) const {
  const auto size = static_cast<size_t>(hash_.page_tokens());
  return {tokens_.get() + size * static_cast<size_t>(page), size};
}

size_t PrefixCache::SlotOf(uint32_t hash, int32_t parent, std::span<const int32_t> tokens) const {
  size_t slot = Home(hash);
  for (int32_t page = slots_[slot]; page >= 0; page = slots_[slot = Next(slot)]) {
    if (hash_of_[page] == hash && parent_[page] == parent && std::ranges::equal(TokensOf(page), tokens)) break;
  }
  return slot;
}

size_t PrefixCache::SlotOf(int32_t page) const {
  size_t slot = Home(hash_of_[page]);
  while (slots_[slot] != page) slot = Next(slot);
  return slot;
}

// Entries behind the gap that would no longer be found move into it.
void PrefixCache::FreeSlot(size_t gap) {
  for (size_t slot = Next(gap); slots_[slot] >= 0; slot = Next(slot)) {
    const size_t home = Home(hash_of_[slots_[slot]]);
    const bool between = gap <= slot ? gap < home && home <= slot : gap < home || home <= slot;
    if (!between) slots_[std::exchange(gap, slot)] = slots_[slot];
  }
  slots_[gap] = -1;
}

PrefixMatch PrefixCache::Find(const CacheSalt& salt, std::span<const uint64_t> hashes,
                              std::span<const int32_t> tokens) const {
  PrefixMatch match;
  match.pages.reserve(hashes.size());
  const auto size = static_cast<size_t>(hash_.page_tokens());
  int32_t parent = -1;
  for (size_t i = 0; i < hashes.size(); ++i) {
    const uint32_t hash = Short(hashes[i]);
    const int32_t page = slots_[SlotOf(hash, ParentOf(salt, parent), tokens.subspan(i * size, size))];
    if (page < 0) {
      match.miss = evicted_[hash % kEvictedKept] == hash ? PrefixMiss::kEvicted : PrefixMiss::kCold;
      break;
    }
    match.pages.push_back(parent = page);
  }
  return match;
}

int32_t PrefixCache::Insert(const CacheSalt& salt, uint64_t hash, int32_t parent, std::span<const int32_t> tokens,
                            int32_t page) {
  const size_t slot = SlotOf(Short(hash), ParentOf(salt, parent), tokens);
  if (slots_[slot] >= 0) return slots_[slot];
  slots_[slot] = page;
  hash_of_[page] = Short(hash);
  parent_[page] = ParentOf(salt, parent);
  std::ranges::copy(tokens, TokensOf(page).begin());
  ++num_pages_;
  arena_->Cache(KvClass::kGlobal, page);
  return page;
}

void PrefixCache::Forget(int32_t page) {
  if (const auto found = snapshot_of_.find(page); found != snapshot_of_.end()) DropSnapshot(found->second);
  FreeSlot(SlotOf(page));
  parent_[page] = kNoPage;
  --num_pages_;
  evicted_[hash_of_[page] % kEvictedKept] = hash_of_[page];
  arena_->Uncache(KvClass::kGlobal, page);
}

void PrefixCache::AddSnapshot(int32_t global_page, int32_t first_page, std::span<const int32_t> pages) {
  if (const auto found = snapshot_of_.find(global_page); found != snapshot_of_.end()) DropSnapshot(found->second);
  int32_t snapshot = static_cast<int32_t>(snapshots_.size());
  if (free_snapshots_.empty()) {
    snapshots_.emplace_back();
    snapshot_use_.links.emplace_back();
  } else {
    snapshot = free_snapshots_.back();
    free_snapshots_.pop_back();
  }
  snapshots_[snapshot] = {global_page, first_page, {pages.begin(), pages.end()}};
  snapshot_of_[global_page] = snapshot;
  snapshot_use_.PushBack(snapshot);
  for (const int32_t page : pages) arena_->Cache(KvClass::kWindow, page);
}

const PrefixCache::Snapshot* PrefixCache::UseSnapshot(int32_t global_page) {
  const auto found = snapshot_of_.find(global_page);
  if (found == snapshot_of_.end()) return nullptr;
  snapshot_use_.Remove(found->second);
  snapshot_use_.PushBack(found->second);
  return &snapshots_[found->second];
}

void PrefixCache::DropSnapshot(int32_t snapshot) {
  const Snapshot gone = std::exchange(snapshots_[snapshot], Snapshot{});
  snapshot_of_.erase(gone.global_page);
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

void PrefixCache::Renumber(KvClass kv_class, std::span<const PageCopy> moves) {
  if (moves.empty()) return;
  const int32_t per_slab = arena_->layout().of(kv_class).pages_per_slab;
  const int32_t first = moves.front().from / per_slab * per_slab;
  std::vector<int32_t> moved(static_cast<size_t>(per_slab), -1);  // by page of the slab
  for (const PageCopy& move : moves) moved[move.from - first] = move.to;
  const auto renumber = [&](int32_t& page) {
    if (page >= first && page < first + per_slab && moved[page - first] >= 0) page = moved[page - first];
  };
  if (kv_class == KvClass::kWindow) {
    for (Snapshot& snapshot : snapshots_) std::ranges::for_each(snapshot.pages, renumber);
    return;
  }
  for (const PageCopy& move : moves) MoveEntry(move.from, move.to);
  std::ranges::for_each(parent_, renumber);
}

void PrefixCache::MoveEntry(int32_t from, int32_t to) {
  if (!Has(from)) return;
  slots_[SlotOf(from)] = to;
  hash_of_[to] = hash_of_[from];
  parent_[to] = std::exchange(parent_[from], kNoPage);
  std::ranges::copy(TokensOf(from), TokensOf(to).begin());
  if (unowned_.Holds(from)) unowned_.Renumber(from, to);
  if (const auto found = snapshot_of_.find(from); found != snapshot_of_.end()) {
    const int32_t snapshot = found->second;
    snapshot_of_.erase(found);
    snapshot_of_[to] = snapshot;
    snapshots_[snapshot].global_page = to;
  }
}

void PrefixCache::OnCached(KvClass kv_class, int32_t page) {
  if (kv_class == KvClass::kGlobal) unowned_.PushBack(page);
}

void PrefixCache::OnUncached(KvClass kv_class, int32_t page) {
  if (kv_class == KvClass::kGlobal) unowned_.Remove(page);
}

absl::Status PrefixCache::Check() const {
  int64_t cached = 0, found = 0, unowned = 0;
  for (int32_t page = 0; page < static_cast<int32_t>(parent_.size()); ++page) {
    if (!Has(page)) {
      if (unowned_.Holds(page)) return absl::InternalError(absl::StrCat("page ", page, " is listed and not cached"));
      continue;
    }
    ++cached;
    unowned += unowned_.Holds(page) ? 1 : 0;
    found += slots_[SlotOf(hash_of_[page], parent_[page], TokensOf(page))] == page ? 1 : 0;
    if (parent_[page] >= 0 && !Has(parent_[page])) {
      return absl::InternalError(absl::StrCat("cached page ", page, " has lost its parent ", parent_[page]));
    }
  }
  if (cached != num_pages_ || found != cached || unowned != arena_->counts(KvClass::kGlobal).cached) {
    return absl::InternalError(absl::StrCat(num_pages_, " pages said to be cached, ", cached, " are, ", found,
                                            " can be found, ", unowned, " unowned"));
  }
  for (const auto& [page, snapshot] : snapshot_of_) {
    if (!Has(page) || snapshots_[snapshot].global_page != page) {
      return absl::InternalError(absl::StrCat("a snapshot hangs on page ", page, ", which is not cached"));
    }
  }
  return absl::OkStatus();
}

}  // namespace hysparse
