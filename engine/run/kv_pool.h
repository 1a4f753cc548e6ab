// KvPool: the KV arena of a rank, one device allocation made before readiness, and the host arena that pages are
// spilled to. Page p of a class lies at base + p * page_stride of its ArenaLayout; engine/kv/residency.h says what is
// inside. Owned by a ModelRunner and used on its thread; the pool knows nothing of who uses which page.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "engine/kv/arena_layout.h"
#include "engine/kv/residency.h"
#include "engine/schedule/step_plan.h"
#include "kernels/ops.h"

namespace hysparse {

class KvPool {
 public:
  // `host` with no slabs: nothing can be spilled. InvalidArgument when an arena was not made for this layout, the
  // backend's error when the memory is not there.
  static absl::StatusOr<KvPool> Make(const KvLayout& layout, const ArenaLayout& device, const ArenaLayout& host,
                                     Backend& backend);

  const KvLayout& layout() const { return layout_; }
  const ArenaLayout& device() const { return device_.layout; }
  const ArenaLayout& host() const { return host_.layout; }
  // Model layer `layer` of its class; the block table is the caller's to fill in.
  PagedKv View(size_t layer) const;

  // Begins the plan's copies, which must name pages that exist. Those between host and device are done when the
  // backend's FinishCopies returns.
  void Copy(const OpContext& ctx, const StepPlan& plan) const;

 private:
  struct Arena {
    ArenaLayout layout;
    std::shared_ptr<std::byte> memory;
    std::byte* page(KvClass kv_class, int32_t id) const { return memory.get() + id * layout.of(kv_class).page_stride; }
  };
  void Copy(const OpContext& ctx, CopyRoute route, const std::vector<PageCopy>& copies, const Arena& from,
            const Arena& to) const;

  KvLayout layout_;
  Backend* backend_ = nullptr;
  Arena device_, host_;
};

}  // namespace hysparse
