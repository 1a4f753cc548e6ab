// KvPool: the pages of both KV classes, one device allocation each, made before readiness. Page p of a class lies at
// base + p * page_bytes; engine/kv/residency.h says what is inside. Owned by a ModelRunner; the pool knows nothing of
// who uses which page.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "engine/kv/residency.h"
#include "kernels/ops.h"

namespace hysparse {

class KvPool {
 public:
  // ResourceExhausted or the backend's error when the memory is not there.
  static absl::StatusOr<KvPool> Make(const KvLayout& layout, int64_t global_pages, int64_t window_pages,
                                     Backend& backend);

  const KvLayout& layout() const { return layout_; }
  int64_t pages(KvClass kv_class) const { return kv_class == KvClass::kGlobal ? global_pages_ : window_pages_; }
  int64_t bytes() const {
    return global_pages_ * layout_.global.page_bytes() + window_pages_ * layout_.window.page_bytes();
  }
  // Model layer `layer` of its class; the block table is the caller's to fill in.
  PagedKv View(size_t layer) const;

 private:
  KvLayout layout_;
  int64_t global_pages_ = 0, window_pages_ = 0;
  std::shared_ptr<std::byte> global_, window_;
};

}  // namespace hysparse
