#include "engine/kv/arena.h"

#include <algorithm>
#include <cassert>

#include "absl/strings/str_cat.h"

namespace hysparse {

Arena::Arena(const ArenaLayout& layout)
    : layout_(layout), slabs_(static_cast<size_t>(layout.slabs)), unassigned_(layout.slabs) {
  for (const KvClass kv_class : {KvClass::kGlobal, KvClass::kWindow}) {
    ClassPages& pages = of(kv_class);
    pages.per_slab = layout.of(kv_class).pages_per_slab;
    pages.pages.resize(static_cast<size_t>(layout.page_ids(kv_class)));
    pages.open = BitTree(layout.slabs);
  }
  for (int32_t slab = 0; slab < layout.slabs; ++slab) unassigned_.Set(slab);
  unassigned_count_ = layout.slabs;
}

int64_t& Arena::CountOf(ClassPages& pages, State state) {
  switch (state) {
    case State::kFree:
      return pages.counts.free;
    case State::kReferenced:
      return pages.counts.referenced;
    case State::kCached:
      return pages.counts.cached;
    case State::kSpilling:
      break;
  }
  return pages.counts.spilling;
}

void Arena::AssignSlab(KvClass kv_class, int32_t slab) {
  unassigned_.Clear(slab);
  --unassigned_count_;
  Slab& of_slab = slabs_[slab];
  of_slab = Slab{};
  of_slab.owner = static_cast<int8_t>(kv_class);
  ClassPages& pages = of(kv_class);
  for (int32_t page = (slab + 1) * pages.per_slab; page-- > slab * pages.per_slab;) {
    pages.pages[page] = Page{};
    pages.pages[page].next_free = of_slab.first_free;
    of_slab.first_free = page;
  }
  pages.counts.free += pages.per_slab;
  pages.open.Set(slab);
}

std::optional<BlockRef> Arena::Take(KvClass kv_class) {
  ClassPages& pages = of(kv_class);
  if (pages.per_slab == 0) return std::nullopt;
  int32_t slab = pages.open.First();
  if (slab < 0) {
    slab = unassigned_.First();
    if (slab < 0) return std::nullopt;
    AssignSlab(kv_class, slab);
  }
  const int32_t page = slabs_[slab].first_free;
  Change(kv_class, page, [](Page& at) { at.references = 1; });
  return BlockRef(this, kv_class, page);
}

BlockRef Arena::Share(KvClass kv_class, int32_t page) {
  assert(of(kv_class).pages[page].state() != State::kFree);
  Change(kv_class, page, [](Page& at) { ++at.references; });
  return BlockRef(this, kv_class, page);
}

void Arena::Release(KvClass kv_class, int32_t page) {
  assert(of(kv_class).pages[page].references > 0);
  Change(kv_class, page, [](Page& at) { --at.references; });
}

void Arena::Cache(KvClass kv_class, int32_t page) {
  Change(kv_class, page, [](Page& at) { ++at.cache_holds; });
}

void Arena::Uncache(KvClass kv_class, int32_t page) {
  assert(of(kv_class).pages[page].cache_holds > 0);
  Change(kv_class, page, [](Page& at) { --at.cache_holds; });
}

void Arena::BeginSpill(KvClass kv_class, int32_t page) {
  ClassPages& pages = of(kv_class);
  if (pages.pages[page].spills == 0) ++slabs_[page / pages.per_slab].spilling;
  Change(kv_class, page, [](Page& at) { ++at.spills; });
}

void Arena::EndSpill(KvClass kv_class, int32_t page) {
  ClassPages& pages = of(kv_class);
  assert(pages.pages[page].spills > 0);
  if (pages.pages[page].spills == 1) --slabs_[page / pages.per_slab].spilling;
  Change(kv_class, page, [](Page& at) { --at.spills; });
}

void Arena::Change(KvClass kv_class, int32_t id, absl::FunctionRef<void(Page&)> change) {
  ClassPages& pages = of(kv_class);
  Page& page = pages.pages[id];
  const State before = page.state();
  change(page);
  const State after = page.state();
  if (after == before) return;
  --CountOf(pages, before);
  ++CountOf(pages, after);
  const int32_t at = id / pages.per_slab;
  Slab& slab = slabs_[at];
  if (before == State::kFree) {
    assert(slab.first_free == id && "a page is taken from the top of its slab");
    slab.first_free = page.next_free;
    ++slab.used;
    if (slab.first_free < 0) pages.open.Clear(at);
  } else if (after == State::kFree) {
    page.next_free = slab.first_free;
    slab.first_free = id;
    --slab.used;
    if (!slab.closed) pages.open.Set(at);
    if (slab.used == 0) {
      pages.open.Clear(at);
      pages.counts.free -= pages.per_slab;
      slab = Slab{};
      unassigned_.Set(at);
      ++unassigned_count_;
    }
  }
  if (watcher_ == nullptr) return;
  if (after == State::kCached) watcher_->OnCached(kv_class, id);
  if (before == State::kCached) watcher_->OnUncached(kv_class, id);
}

int32_t Arena::SparsestSlab(KvClass kv_class) const {
  int32_t best = -1;
  for (int32_t slab = 0; slab < layout_.slabs; ++slab) {
    const Slab& at = slabs_[slab];
    if (at.owner != static_cast<int8_t>(kv_class) || at.spilling > 0) continue;
    if (best < 0 || at.used < slabs_[best].used) best = slab;
  }
  return best;
}

void Arena::CloseSlab(int32_t slab) {
  slabs_[slab].closed = true;
  of(static_cast<KvClass>(slabs_[slab].owner)).open.Clear(slab);
}

void Arena::OpenSlab(int32_t slab) {
  if (slabs_[slab].owner < 0) return;  // emptied
  slabs_[slab].closed = false;
  if (slabs_[slab].first_free >= 0) of(static_cast<KvClass>(slabs_[slab].owner)).open.Set(slab);
}

std::vector<int32_t> Arena::UsedPages(int32_t slab) const {
  std::vector<int32_t> used;
  const ClassPages& pages = of(static_cast<KvClass>(slabs_[slab].owner));
  for (int32_t page = slab * pages.per_slab; page < (slab + 1) * pages.per_slab; ++page) {
    if (pages.pages[page].state() != State::kFree) used.push_back(page);
  }
  return used;
}

void Arena::Move(KvClass kv_class, int32_t from, BlockRef to) {
  ClassPages& pages = of(kv_class);
  const Page &source = pages.pages[from], &target = pages.pages[to.page_];
  assert(target.references == 1 && target.cache_holds == 0 && source.spills == 0);
  Watcher* const watcher = std::exchange(watcher_, nullptr);  // nothing changes for the page's holders
  const Page moved = source;
  Change(kv_class, to.page_, [&](Page& at) {
    at.references = moved.references;
    at.cache_holds = moved.cache_holds;
  });
  to.arena_ = nullptr;  // its reference is one of the source's now
  Change(kv_class, from, [](Page& at) { at.references = at.cache_holds = 0; });
  watcher_ = watcher;
}

absl::Status Arena::Check(KvClass kv_class, std::span<const std::span<const int32_t>> owners) const {
  const ClassPages& pages = of(kv_class);
  std::vector<int32_t> references(pages.pages.size(), 0);
  for (std::span<const int32_t> table : owners) {
    for (const int32_t page : table) {
      if (page < 0 || page >= static_cast<int32_t>(pages.pages.size())) {
        return absl::InternalError(absl::StrCat("page ", page, " of a block table does not exist"));
      }
      ++references[page];
    }
  }
  PageCounts counted;
  for (int32_t slab = 0; slab < layout_.slabs; ++slab) {
    if (slabs_[slab].owner != static_cast<int8_t>(kv_class)) continue;
    for (int32_t id = slab * pages.per_slab; id < (slab + 1) * pages.per_slab; ++id) {
      const Page& page = pages.pages[id];
      if (page.references != std::exchange(references[id], 0)) {
        return absl::InternalError(
            absl::StrCat("page ", id, " has ", page.references, " references, not as many owners"));
      }
      switch (page.state()) {
        case State::kFree:
          ++counted.free;
          break;
        case State::kReferenced:
          ++counted.referenced;
          break;
        case State::kCached:
          ++counted.cached;
          break;
        case State::kSpilling:
          ++counted.spilling;
          break;
      }
    }
  }
  for (size_t id = 0; id < references.size(); ++id) {
    if (references[id] != 0) return absl::InternalError(absl::StrCat("page ", id, " is owned and not of this class"));
  }
  const PageCounts& c = pages.counts;
  if (counted.free != c.free || counted.referenced != c.referenced || counted.cached != c.cached ||
      counted.spilling != c.spilling) {
    return absl::InternalError(absl::StrCat("counted ", counted.free, " free, ", counted.referenced, " referenced, ",
                                            counted.cached, " cached, ", counted.spilling, " spilling pages, not ",
                                            c.free, ", ", c.referenced, ", ", c.cached, ", ", c.spilling));
  }
  int64_t slab_pages = 0;
  for (const KvClass each : {KvClass::kGlobal, KvClass::kWindow}) {
    if (of(each).per_slab > 0) slab_pages += of(each).counts.total() / of(each).per_slab;
  }
  if (slab_pages + unassigned_count_ != layout_.slabs) {
    return absl::InternalError(
        absl::StrCat(slab_pages, " slabs in use + ", unassigned_count_, " unassigned of ", layout_.slabs));
  }
  return absl::OkStatus();
}

void BlockTable::Append(BlockRef block) {
  pages_.push_back(block.page_);
  block.arena_ = nullptr;  // the table owns it now
}

void BlockTable::Replace(int32_t logical_page, BlockRef block) {
  const int32_t old = std::exchange(pages_[Index(logical_page)], block.page_);
  block.arena_ = nullptr;
  arena_->Release(kv_class_, old);
}

void BlockTable::DropBefore(int32_t first_page) {
  const int32_t drop = std::clamp(first_page - first_page_, 0, size());
  for (int32_t i = 0; i < drop; ++i) arena_->Release(kv_class_, pages_[i]);
  // A window's table is a few pages long, so closing the gap costs less than a ring would.
  pages_.erase(pages_.begin(), pages_.begin() + drop);
  first_page_ = std::max(first_page, first_page_);
}

void BlockTable::DropFrom(int32_t end_page) {
  while (!pages_.empty() && this->end_page() > end_page) {
    arena_->Release(kv_class_, pages_.back());
    pages_.pop_back();
  }
}

}  // namespace hysparse
