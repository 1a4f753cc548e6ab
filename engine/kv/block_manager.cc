#include "engine/kv/block_manager.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "absl/strings/str_cat.h"

namespace hysparse {
namespace {

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// What the owner of `held` pages is still owed.
int64_t Owed(int64_t promise, int64_t held) { return std::max<int64_t>(0, promise - held); }

// The first token that a step starting at token n still reads.
int32_t WindowStart(const KvClassLayout& window, int32_t n) { return std::max(0, n - window.window + 1); }

// Tokens that fit behind token n when the table may hold all pages that are free and not promised to others.
int64_t Room(const KvClassLayout& layout, const PagePool& pool, const BlockTable& table, int64_t promise, int32_t n) {
  if (layout.layers == 0) return INT32_MAX;
  // Pages that BeginAppend will free count as free already.
  const int32_t first = layout.window == 0 ? 0 : WindowStart(layout, n) / layout.page_tokens;
  const int64_t stale = std::max(0, first - table.first_page());
  const int64_t others = pool.promised() - Owed(promise, table.size());
  const int64_t pages = table.size() - stale + (pool.free() + stale - std::max<int64_t>(0, others));
  return (first + pages) * layout.page_tokens - n;
}

void GrowTo(const KvClassLayout& layout, PagePool& pool, BlockTable& table, int64_t tokens) {
  if (layout.layers == 0) return;
  while (int64_t{table.end_page()} * layout.page_tokens < tokens) {
    std::optional<BlockRef> block = pool.Allocate();
    assert(block && "appends are bounded by MaxAppend");
    table.Append(*std::move(block));
  }
}

}  // namespace

SequenceKv::SequenceKv(BlockManager* manager, int64_t global_promise, int64_t window_promise)
    : manager_(manager),
      global_(&manager->global_pool_),
      window_(&manager->window_pool_),
      global_promise_(global_promise),
      window_promise_(window_promise) {
  manager_->global_pool_.Promise(global_promise_);
  manager_->window_pool_.Promise(window_promise_);
}

SequenceKv::SequenceKv(SequenceKv&& other) noexcept
    : manager_(std::exchange(other.manager_, nullptr)),
      global_(std::move(other.global_)),
      window_(std::move(other.window_)),
      global_promise_(other.global_promise_),
      window_promise_(other.window_promise_),
      num_tokens_(other.num_tokens_),
      appending_(other.appending_) {}

SequenceKv::~SequenceKv() {
  if (manager_ == nullptr) return;
  manager_->global_pool_.Promise(-Owed(global_promise_, global_.size()));
  manager_->window_pool_.Promise(-Owed(window_promise_, window_.size()));
}

template <typename Change>
void SequenceKv::Resize(Change change) {
  const int64_t global = Owed(global_promise_, global_.size());
  const int64_t window = Owed(window_promise_, window_.size());
  change();
  manager_->global_pool_.Promise(Owed(global_promise_, global_.size()) - global);
  manager_->window_pool_.Promise(Owed(window_promise_, window_.size()) - window);
}

int32_t SequenceKv::MaxAppend(int32_t wanted) const {
  const BlockManager& m = *manager_;
  const int64_t room = std::min(Room(m.global_, m.global_pool_, global_, global_promise_, num_tokens_),
                                Room(m.window_, m.window_pool_, window_, window_promise_, num_tokens_));
  return static_cast<int32_t>(std::clamp<int64_t>(room, 0, wanted));
}

void SequenceKv::BeginAppend(int32_t count) {
  Resize([&] {
    const KvClassLayout& window = manager_->window_;
    if (window.layers > 0) window_.DropBefore(WindowStart(window, num_tokens_) / window.page_tokens);
    GrowTo(manager_->global_, manager_->global_pool_, global_, int64_t{num_tokens_} + count);
    GrowTo(window, manager_->window_pool_, window_, int64_t{num_tokens_} + count);
  });
  appending_ = count;
}

void SequenceKv::EndAppend() {
  num_tokens_ += std::exchange(appending_, 0);
  const KvClassLayout& window = manager_->window_;
  if (window.layers == 0) return;
  Resize([&] { window_.DropBefore(std::max(0, num_tokens_ - window.window) / window.page_tokens); });
}

absl::Status SequenceKv::Truncate(int32_t count) {
  if (count < 0 || count > num_tokens_) {
    return absl::InvalidArgumentError(absl::StrCat("cannot cut ", count, " of ", num_tokens_, " tokens"));
  }
  const KvClassLayout& global = manager_->global_;
  const KvClassLayout& window = manager_->window_;
  const int32_t left = num_tokens_ - count;
  if (window.layers > 0 && window_.first_page() > WindowStart(window, left) / window.page_tokens) {
    return absl::FailedPreconditionError(absl::StrCat("cannot cut back to ", left,
                                                      " tokens: the window's tokens before ",
                                                      window_.first_page() * window.page_tokens, " are gone"));
  }
  num_tokens_ = left;
  Resize([&] {
    if (global.layers > 0) global_.DropFrom(static_cast<int32_t>(CeilDiv(left, global.page_tokens)));
    if (window.layers > 0) window_.DropFrom(static_cast<int32_t>(CeilDiv(left, window.page_tokens)));
  });
  return absl::OkStatus();
}

BlockManager::BlockManager(const KvClassLayout& global, int64_t global_pages, const KvClassLayout& window,
                           int64_t window_pages)
    : global_(global), window_(window), global_pool_(global_pages), window_pool_(window_pages) {}

absl::Status BlockManager::CanEverFit(int64_t tokens) const {
  const int64_t global = global_.MaxPages(tokens, 1), window = window_.MaxPages(tokens, 1);
  if (global <= global_pool_.total() && window <= window_pool_.total()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "a sequence of ", tokens, " tokens needs ", global, " global and ", window, " window KV pages (of ",
      global_.page_tokens, " and ", window_.page_tokens, " tokens); the KV cache has ", global_pool_.total(), " and ",
      window_pool_.total(), ". Ask for fewer tokens or give the server more KV cache memory."));
}

std::optional<SequenceKv> BlockManager::Admit(int64_t tokens) {
  const int64_t global = global_.MaxPages(tokens, 1), window = window_.MaxPages(tokens, 1);
  if (global > global_pool_.free() - global_pool_.promised()) return std::nullopt;
  if (window > window_pool_.free() - window_pool_.promised()) return std::nullopt;
  return SequenceKv(this, global, window);
}

absl::Status BlockManager::Check(const std::vector<const SequenceKv*>& sequences) const {
  for (KvClass kv_class : {KvClass::kGlobal, KvClass::kWindow}) {
    std::vector<std::span<const int32_t>> tables;
    int64_t owed = 0;
    for (const SequenceKv* kv : sequences) {
      const bool global = kv_class == KvClass::kGlobal;
      const BlockTable& table = global ? kv->global_ : kv->window_;
      tables.push_back(table.pages());
      owed += Owed(global ? kv->global_promise_ : kv->window_promise_, table.size());
    }
    if (absl::Status status = pool(kv_class).Check(tables); !status.ok()) return status;
    if (owed != pool(kv_class).promised()) {
      return absl::InternalError(absl::StrCat("promised ", pool(kv_class).promised(), " pages, owed ", owed));
    }
  }
  return absl::OkStatus();
}

}  // namespace hysparse
