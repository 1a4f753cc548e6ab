// Arena: who owns which page of the KV memory. Two levels: slabs, each unassigned or handed to one KV class, and inside
// a slab that class's pages. A slab is taken on demand and given back the moment its last page is free. Bookkeeping
// only: the bytes are a rank's (engine/run/kv_pool). Engine thread. Every operation is O(1) but AssignSlab,
// SparsestSlab and Check.
//
// A page is free, *referenced* (some sequence owns it), *cached* (only the prefix cache holds it) or *spilling* (a copy
// to the host is under way and nobody else holds it). Law, per class: free + referenced + cached + spilling = pages of
// its slabs; over both classes and the unassigned slabs: the arena.
//
// Ownership is a type: a BlockRef, or a BlockTable that BlockRefs were moved into, owns one reference of a page, and
// dropping it releases the page.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "engine/kv/arena_layout.h"
#include "engine/kv/bit_tree.h"

namespace hysparse {

class Arena;

class BlockRef {
 public:
  BlockRef(BlockRef&& other) noexcept
      : arena_(std::exchange(other.arena_, nullptr)), kv_class_(other.kv_class_), page_(other.page_) {}
  BlockRef& operator=(BlockRef&& other) noexcept {
    std::swap(arena_, other.arena_);
    std::swap(kv_class_, other.kv_class_);
    std::swap(page_, other.page_);
    return *this;
  }
  ~BlockRef();

  int32_t page() const { return page_; }
  KvClass kv_class() const { return kv_class_; }

 private:
  friend class Arena;
  friend class BlockTable;
  BlockRef(Arena* arena, KvClass kv_class, int32_t page) : arena_(arena), kv_class_(kv_class), page_(page) {}

  Arena* arena_;
  KvClass kv_class_;
  int32_t page_;
};

struct PageCounts {
  int64_t free = 0, referenced = 0, cached = 0, spilling = 0;
  int64_t total() const { return free + referenced + cached + spilling; }
};

class Arena {
 public:
  // Hears of pages held by the prefix cache: that the last owner let go of one, or that it is owned again.
  class Watcher {
   public:
    virtual ~Watcher() = default;
    virtual void OnCached(KvClass kv_class, int32_t page) = 0;
    virtual void OnUncached(KvClass kv_class, int32_t page) = 0;
  };

  explicit Arena(const ArenaLayout& layout);
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // A free page of the class's own slabs, lowest slab first, or of a slab that was unassigned; nothing when there is
  // neither.
  std::optional<BlockRef> Take(KvClass kv_class);
  // One more owner of a page that is referenced or cached.
  BlockRef Share(KvClass kv_class, int32_t page);
  // The prefix cache's own hold on a page, counted.
  void Cache(KvClass kv_class, int32_t page);
  void Uncache(KvClass kv_class, int32_t page);
  // A copy to the host is under way: the page is not free before EndSpill, once for each BeginSpill.
  void BeginSpill(KvClass kv_class, int32_t page);
  void EndSpill(KvClass kv_class, int32_t page);

  // The class's slab with the fewest used pages, not counting slabs with a page that spills; -1: none.
  int32_t SparsestSlab(KvClass kv_class) const;
  // Closed slabs hand out no pages. For emptying one.
  void CloseSlab(int32_t slab);
  void OpenSlab(int32_t slab);
  // Pages of a slab that are not free.
  std::vector<int32_t> UsedPages(int32_t slab) const;
  // `to`, just taken and held by nobody else, takes over all owners and holds of `from`, which is free then.
  void Move(KvClass kv_class, int32_t from, BlockRef to);

  const ArenaLayout& layout() const { return layout_; }
  const PageCounts& counts(KvClass kv_class) const { return of(kv_class).counts; }
  int32_t unassigned_slabs() const { return unassigned_count_; }
  int32_t references(KvClass kv_class, int32_t page) const { return of(kv_class).pages[page].references; }
  void set_watcher(Watcher* watcher) { watcher_ = watcher; }

  // The law, and that every reference is one of `owners` (page lists of all owners, repetitions counted). O(pages).
  absl::Status Check(KvClass kv_class, std::span<const std::span<const int32_t>> owners) const;

 private:
  friend class BlockRef;
  friend class BlockTable;
  enum class State : uint8_t { kFree, kReferenced, kCached, kSpilling };
  struct Page {
    int32_t references = 0;
    int32_t next_free = -1;
    uint16_t cache_holds = 0, spills = 0;

    State state() const {
      return references > 0    ? State::kReferenced
             : spills > 0      ? State::kSpilling
             : cache_holds > 0 ? State::kCached
                               : State::kFree;
    }
  };
  struct ClassPages {
    int32_t per_slab = 0;
    std::vector<Page> pages;  // [page ids]; those of slabs of the other class are idle
    BitTree open;             // its slabs with a free page, not closed
    PageCounts counts;
  };
  struct Slab {
    int8_t owner = -1;  // a KvClass, or -1: unassigned
    bool closed = false;
    int32_t used = 0, first_free = -1, spilling = 0;
  };

  ClassPages& of(KvClass kv_class) { return classes_[static_cast<size_t>(kv_class)]; }
  const ClassPages& of(KvClass kv_class) const { return classes_[static_cast<size_t>(kv_class)]; }
  void Release(KvClass kv_class, int32_t page);
  // Changes a page and brings the counts, its slab and the watcher up to date.
  void Change(KvClass kv_class, int32_t page, absl::FunctionRef<void(Page&)> change);
  void AssignSlab(KvClass kv_class, int32_t slab);
  int64_t& CountOf(ClassPages& pages, State state);

  ArenaLayout layout_;
  ClassPages classes_[2];
  std::vector<Slab> slabs_;
  BitTree unassigned_;
  int32_t unassigned_count_ = 0;
  Watcher* watcher_ = nullptr;
};

inline BlockRef::~BlockRef() {
  if (arena_ != nullptr) arena_->Release(kv_class_, page_);
}

// A sequence's pages of one class, in logical order. Owns a reference of each (4 bytes a page: 64 KiB for a million
// tokens).
class BlockTable {
 public:
  BlockTable(Arena* arena, KvClass kv_class) : arena_(arena), kv_class_(kv_class) {}
  BlockTable(BlockTable&& other) noexcept
      : arena_(other.arena_),
        kv_class_(other.kv_class_),
        pages_(std::exchange(other.pages_, {})),
        first_page_(std::exchange(other.first_page_, 0)) {}
  BlockTable& operator=(BlockTable&& other) noexcept {
    std::swap(pages_, other.pages_);
    std::swap(first_page_, other.first_page_);
    return *this;
  }
  ~BlockTable() { Clear(); }

  // The logical page of the first one appended. Only while empty.
  void StartAt(int32_t first_page) { first_page_ = first_page; }
  void Append(BlockRef block);
  // Puts another page in the place of a logical page, whose reference is dropped.
  void Replace(int32_t logical_page, BlockRef block);
  // The page's owners were moved to another page as a whole.
  void Renumber(int32_t logical_page, int32_t page) { pages_[Index(logical_page)] = page; }
  // Frees pages at the front until `first_page` is the first one held.
  void DropBefore(int32_t first_page);
  // Frees pages at the back, last first, until the table ends before logical page `end_page`.
  void DropFrom(int32_t end_page);
  void Clear() { DropFrom(0); }

  std::span<const int32_t> pages() const { return pages_; }
  int32_t page(int32_t logical_page) const { return pages_[Index(logical_page)]; }
  bool holds(int32_t logical_page) const { return logical_page >= first_page_ && logical_page < end_page(); }
  int32_t size() const { return static_cast<int32_t>(pages_.size()); }
  int32_t first_page() const { return first_page_; }         // logical page of pages()[0]
  int32_t end_page() const { return first_page_ + size(); }  // one past the last

 private:
  size_t Index(int32_t logical_page) const { return static_cast<size_t>(logical_page - first_page_); }

  Arena* arena_;
  KvClass kv_class_;
  std::vector<int32_t> pages_;
  int32_t first_page_ = 0;
};

}  // namespace hysparse
