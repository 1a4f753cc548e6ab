// The pages of one KV class, handed out one by one. Engine thread only. Every operation is O(1) except Check.
//
// Ownership is a type: whoever holds a BlockRef (or the BlockTable it was moved into) owns the page, and dropping it
// frees the page. A page has one owner; sharing would make `owned` a count and give BlockRef a Share() that raises it,
// and nothing else here would change.
//
// A *promise* sets pages aside for an owner that does not hold them yet, so that a sequence admitted once never runs
// out midway. Law: free() >= promised(), free() + referenced() == total().
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace hysparse {

class PagePool;

// One owned page. Move-only; the destructor returns the page to its pool.
class BlockRef {
 public:
  BlockRef(BlockRef&& other) noexcept : pool_(std::exchange(other.pool_, nullptr)), page_(other.page_) {}
  BlockRef& operator=(BlockRef&& other) noexcept {
    std::swap(pool_, other.pool_);
    std::swap(page_, other.page_);
    return *this;
  }
  ~BlockRef();

  int32_t page() const { return page_; }

 private:
  friend class PagePool;
  friend class BlockTable;
  BlockRef(PagePool* pool, int32_t page) : pool_(pool), page_(page) {}

  PagePool* pool_;
  int32_t page_;
};

class PagePool {
 public:
  explicit PagePool(int64_t pages);
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;

  // Nothing when no page is free. Promises are the caller's to keep: take from your own, or from free() - promised().
  std::optional<BlockRef> Allocate();

  // Changes the sum of all promises by `pages`.
  void Promise(int64_t pages) { promised_ += pages; }

  int64_t total() const { return static_cast<int64_t>(owned_.size()); }
  int64_t free() const { return static_cast<int64_t>(free_.size()); }
  int64_t referenced() const { return total() - free(); }
  int64_t promised() const { return promised_; }

  // The laws above, and that `tables`, the page lists of all owners, hold every referenced page exactly once. O(pages).
  absl::Status Check(std::span<const std::span<const int32_t>> tables) const;

 private:
  friend class BlockRef;
  friend class BlockTable;
  void Release(int32_t page);

  std::vector<int32_t> free_;   // a stack: the page freed last is the warmest
  std::vector<uint8_t> owned_;  // [total]
  int64_t promised_ = 0;
};

inline BlockRef::~BlockRef() {
  if (pool_ != nullptr) pool_->Release(page_);
}

// A sequence's pages of one class, in logical order: page ids side by side, so that a plan copies them in one go
// (4 bytes a page: 64 KiB for a million tokens). Owns its pages.
class BlockTable {
 public:
  explicit BlockTable(PagePool* pool) : pool_(pool) {}
  BlockTable(BlockTable&& other) noexcept
      : pool_(other.pool_), pages_(std::move(other.pages_)), first_page_(other.first_page_) {
    other.pages_.clear();
  }
  BlockTable& operator=(BlockTable&&) = delete;
  ~BlockTable() { Clear(); }

  void Append(BlockRef block);
  // Frees pages at the front until `first_page` is the first one held.
  void DropBefore(int32_t first_page);
  // Frees pages at the back until the table ends before logical page `end_page`.
  void DropFrom(int32_t end_page);
  void Clear() { DropFrom(0); }

  std::span<const int32_t> pages() const { return pages_; }
  int32_t size() const { return static_cast<int32_t>(pages_.size()); }
  int32_t first_page() const { return first_page_; }         // logical page of pages()[0]
  int32_t end_page() const { return first_page_ + size(); }  // one past the last

 private:
  PagePool* pool_;
  std::vector<int32_t> pages_;
  int32_t first_page_ = 0;
};

}  // namespace hysparse
