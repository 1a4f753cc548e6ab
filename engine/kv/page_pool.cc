#include "engine/kv/page_pool.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"

namespace hysparse {

PagePool::PagePool(int64_t pages)
    : free_(static_cast<size_t>(std::max<int64_t>(0, pages))), owned_(free_.size(), uint8_t{0}) {
  std::iota(free_.rbegin(), free_.rend(), 0);  // page 0 is handed out first
}

std::optional<BlockRef> PagePool::Allocate() {
  if (free_.empty()) return std::nullopt;
  const int32_t page = free_.back();
  free_.pop_back();
  owned_[page] = 1;
  return BlockRef(this, page);
}

void PagePool::Release(int32_t page) {
  owned_[page] = 0;
  free_.push_back(page);  // never allocates: the stack was `total` long at birth
}

absl::Status PagePool::Check(std::span<const std::span<const int32_t>> tables) const {
  std::vector<uint8_t> seen(owned_.size(), uint8_t{0});
  for (int32_t page : free_) {
    if (owned_[page] || seen[page]) return absl::InternalError(absl::StrCat("page ", page, " is free twice or owned"));
    seen[page] = 1;
  }
  int64_t referenced = 0;
  for (std::span<const int32_t> table : tables) {
    for (int32_t page : table) {
      if (page < 0 || page >= total() || seen[page] || !owned_[page]) {
        return absl::InternalError(absl::StrCat("page ", page, " of a block table is free or has another owner"));
      }
      seen[page] = 1;
      ++referenced;
    }
  }
  if (free() + referenced != total() || promised_ < 0 || free() < promised_) {
    return absl::InternalError(
        absl::StrCat("free ", free(), " + referenced ", referenced, " of ", total(), " pages, promised ", promised_));
  }
  return absl::OkStatus();
}

void BlockTable::Append(BlockRef block) {
  pages_.push_back(block.page_);
  block.pool_ = nullptr;  // the table owns it now
}

void BlockTable::DropBefore(int32_t first_page) {
  const int32_t drop = std::clamp(first_page - first_page_, 0, size());
  for (int32_t i = 0; i < drop; ++i) pool_->Release(pages_[i]);
  // A window's table is a few pages long, so closing the gap costs less than a ring would.
  pages_.erase(pages_.begin(), pages_.begin() + drop);
  first_page_ = std::max(first_page, first_page_);
}

void BlockTable::DropFrom(int32_t end_page) {
  while (!pages_.empty() && this->end_page() > end_page) {
    pool_->Release(pages_.back());
    pages_.pop_back();
  }
}

}  // namespace hysparse
