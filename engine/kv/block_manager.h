// Admission to the KV cache and the block tables of the sequences in it. Engine thread only.
//
//   BlockManager blocks(layout.global, global_pages, layout.window, window_pages);
//   if (std::optional<SequenceKv> kv = blocks.Admit(tokens)) {   // promises pages for the sequence's whole life
//     int32_t n = kv->MaxAppend(chunk);                          // what one step may append now, >= 1
//     kv->BeginAppend(n);  …the step writes K and V…  kv->EndAppend();
//   }                                                            // dropping it frees everything
//
// Global pages stay until the sequence ends. Window pages slide: before a step those are freed that its first token no
// longer reads, after it those wholly before the last `window` tokens; a page is immutable once full. A prefill chunk
// may take window pages beyond the promise while they are free, and never those promised to others.
// Counts are in tokens whose K and V are cached. Errors: InvalidArgument where a request can never fit, with numbers.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "engine/kv/page_pool.h"
#include "engine/kv/residency.h"

namespace hysparse {

class BlockManager;

// One sequence's share of the KV cache. Move-only; must not outlive its BlockManager.
class SequenceKv {
 public:
  SequenceKv(SequenceKv&& other) noexcept;
  SequenceKv& operator=(SequenceKv&&) = delete;
  ~SequenceKv();

  // How many of `wanted` tokens a step can append now; at least 1 while fewer than the admitted tokens are held.
  int32_t MaxAppend(int32_t wanted) const;
  // Makes the pages of the next `count` <= MaxAppend(count) tokens addressable.
  void BeginAppend(int32_t count);
  // The step has written them.
  void EndAppend();
  // Cuts the sequence back to num_tokens() - count. FailedPrecondition, changing nothing, when the window that the next
  // token would read is no longer held.
  absl::Status Truncate(int32_t count);

  int32_t num_tokens() const { return num_tokens_; }
  const BlockTable& global() const { return global_; }
  const BlockTable& window() const { return window_; }

 private:
  friend class BlockManager;
  SequenceKv(BlockManager* manager, int64_t global_promise, int64_t window_promise);
  template <typename Change>
  void Resize(Change change);  // runs `change` on the tables and settles the promises

  BlockManager* manager_;  // null: moved from
  BlockTable global_, window_;
  int64_t global_promise_, window_promise_;  // pages held or still promised, whichever is more
  int32_t num_tokens_ = 0, appending_ = 0;
};

class BlockManager {
 public:
  // A class without layers needs no pages.
  BlockManager(const KvClassLayout& global, int64_t global_pages, const KvClassLayout& window, int64_t window_pages);

  // OK when a sequence of `tokens` tokens fits into the empty cache.
  absl::Status CanEverFit(int64_t tokens) const;
  // Promises all pages that a sequence of `tokens` tokens will need; nothing when they are not to be had now.
  std::optional<SequenceKv> Admit(int64_t tokens);

  const PagePool& pool(KvClass kv_class) const { return kv_class == KvClass::kGlobal ? global_pool_ : window_pool_; }

  // Conservation in both classes, given all sequences that hold pages. O(pages): for debug builds and tests.
  absl::Status Check(const std::vector<const SequenceKv*>& sequences) const;

 private:
  friend class SequenceKv;
  KvClassLayout global_, window_;
  PagePool global_pool_, window_pool_;
};

}  // namespace hysparse
