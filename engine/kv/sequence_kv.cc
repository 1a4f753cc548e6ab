#include "engine/kv/sequence_kv.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/ceil_div.h"

namespace hysparse {
namespace {

// Beside the ends of prompt and turn, windows are kept every so many tokens.
constexpr int32_t kRestartInterval = 4096;

// The first token that a step starting at token n still reads.
int32_t WindowStart(const KvClassLayout& window, int32_t n) { return std::max(0, n - window.window + 1); }

}  // namespace

SequenceKv::SequenceKv(BlockManager* manager)
    : manager_(manager),
      live_index_(manager->live_.size()),
      global_(&manager->arena_, KvClass::kGlobal),
      window_(&manager->arena_, KvClass::kWindow),
      host_global_(&manager->host_, KvClass::kGlobal),
      host_window_(&manager->host_, KvClass::kWindow),
      copied_(&manager->arena_, KvClass::kWindow) {
  manager->live_.push_back(this);
}

SequenceKv::~SequenceKv() {
  SetPromise(0, 0);
  manager_->live_[live_index_] = manager_->live_.back();
  manager_->live_[live_index_]->live_index_ = live_index_;
  manager_->live_.pop_back();
}

int64_t SequenceKv::Owed(KvClass kv_class) const {
  const int64_t held = (kv_class == KvClass::kGlobal ? global_ : window_).size();
  return std::max<int64_t>(0, promise_[static_cast<size_t>(kv_class)] - held);
}

void SequenceKv::Resize(absl::FunctionRef<void()> change) {
  for (const KvClass kv_class : kKvClasses) manager_->promised_[static_cast<size_t>(kv_class)] -= Owed(kv_class);
  change();
  for (const KvClass kv_class : kKvClasses) manager_->promised_[static_cast<size_t>(kv_class)] += Owed(kv_class);
}

void SequenceKv::SetPromise(int64_t global, int64_t window) {
  Resize([&] { promise_[0] = global, promise_[1] = window; });
}

int32_t SequenceKv::window_from() const {
  return WindowStart(manager_->layout_.window, num_tokens_) < rebuilt_from_ ? rebuilt_from_ : 0;
}

int32_t SequenceKv::window_tokens() const {
  if (manager_->layout_.window.layers == 0) return 0;
  return num_tokens_ - std::max(rebuilt_from_, window_.first_page() * manager_->layout_.window.page_tokens);
}

bool SequenceKv::CanAppend(int32_t count) const {
  int64_t beyond[2] = {0, 0};
  for (const KvClass kv_class : kKvClasses) {
    const KvClassLayout& of = manager_->layout_.of(kv_class);
    if (of.layers == 0) continue;
    const BlockTable& table = kv_class == KvClass::kGlobal ? global_ : window_;
    const int64_t grown = CeilDiv(int64_t{num_tokens_} + count, of.page_tokens) - table.first_page();
    const int64_t had = std::max<int64_t>(promise_[static_cast<size_t>(kv_class)], table.size());
    beyond[static_cast<size_t>(kv_class)] = std::max<int64_t>(0, grown - had);
  }
  return (beyond[0] == 0 && beyond[1] == 0) || manager_->CanProvide({beyond[0], beyond[1]});
}

int32_t SequenceKv::MaxAppend(int32_t wanted) {
  SlideTo(WindowStart(manager_->layout_.window, num_tokens_));
  if (CanAppend(wanted)) return wanted;
  int32_t fits = 0;
  for (int32_t too_many = wanted; too_many - fits > 1;) {
    const int32_t middle = fits + (too_many - fits) / 2;
    (CanAppend(middle) ? fits : too_many) = middle;
  }
  return fits;
}

void SequenceKv::SlideTo(int32_t first_token) {
  const KvClassLayout& window = manager_->layout_.window;
  if (window.layers == 0) return;
  Resize([&] { window_.DropBefore(first_token / window.page_tokens); });
}

bool SequenceKv::GrowTo(KvClass kv_class, int64_t tokens) {
  const KvClassLayout& of = manager_->layout_.of(kv_class);
  if (of.layers == 0) return true;
  while (int64_t{table(kv_class).end_page()} * of.page_tokens < tokens) {
    std::optional<BlockRef> block = manager_->Allocate(kv_class);
    if (!block) return false;
    manager_->NoteLogicalPage(kv_class, block->page(), table(kv_class).end_page());
    Resize([&] { table(kv_class).Append(*std::move(block)); });
  }
  return true;
}

bool SequenceKv::BeginAppend(int32_t count) {
  const int32_t global = global_.end_page(), window = window_.end_page();
  const int64_t tokens = int64_t{num_tokens_} + count;
  if (GrowTo(KvClass::kGlobal, tokens) && GrowTo(KvClass::kWindow, tokens)) {
    appending_ = count;
    return true;
  }
  Resize([&] {
    global_.DropFrom(global);
    window_.DropFrom(window);
  });
  return false;
}

void SequenceKv::EndAppend() {
  const KvClassLayout& window = manager_->layout_.window;
  const int32_t before = num_tokens_, page = manager_->layout_.global.page_tokens;
  num_tokens_ += std::exchange(appending_, 0);
  if (window.layers == 0) return;
  if (cached_ && page > 0) {
    const auto passed = [&](int32_t position) { return before < position && position <= num_tokens_; };
    const int32_t prompt_end = prompt_tokens_ / page * page;
    const int32_t interval = std::max(1, kRestartInterval / page) * page;
    if (passed(prompt_end)) SnapshotAt(prompt_end);
    if (passed(cached_tokens_)) SnapshotAt(cached_tokens_);
    for (int32_t at = (before / interval + 1) * interval; at <= num_tokens_; at += interval) SnapshotAt(at);
  }
  SlideTo(std::max(0, num_tokens_ - window.window));
}

// Behind a cached prefix only: upper layers leave out rows before its end (engine/model/rebuild.h), and a rebuild's
// first rows lack what the tokens before them would have added.
void SequenceKv::SnapshotAt(int32_t position) {
  const KvClassLayout& window = manager_->layout_.window;
  if (position % window.page_tokens != 0 || position < cached_tokens_) return;
  const int32_t first = WindowStart(window, position) / window.page_tokens, end = position / window.page_tokens;
  if (!window_.holds(first) || !window_.holds(end - 1)) return;
  BlockTable pages(&manager_->arena_, KvClass::kWindow);
  pages.StartAt(first);
  for (int32_t p = first; p < end; ++p) pages.Append(manager_->arena_.Share(KvClass::kWindow, window_.page(p)));
  snapshots_.push_back({position, std::move(pages)});
}

absl::Status SequenceKv::Truncate(int32_t count) {
  if (count < 0 || count > num_tokens_) {
    return absl::InvalidArgumentError(absl::StrCat("cannot cut ", count, " of ", num_tokens_, " tokens"));
  }
  const KvClassLayout &global = manager_->layout_.global, &window = manager_->layout_.window;
  const int32_t left = num_tokens_ - count;
  if (left < inserted_pages_ * global.page_tokens) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot cut back to ", left, " tokens: whole pages are in the prefix cache"));
  }
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
  sent_pages_ = std::min(sent_pages_, global_.size());
  return absl::OkStatus();
}

}  // namespace hysparse
