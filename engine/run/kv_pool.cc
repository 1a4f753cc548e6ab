#include "engine/run/kv_pool.h"

#include "absl/strings/str_cat.h"
#include "engine/base/result.h"

namespace hysparse {
namespace {

absl::Status CheckArena(const KvLayout& layout, const ArenaLayout& arena) {
  for (const KvClass kv_class : {KvClass::kGlobal, KvClass::kWindow}) {
    const ArenaClassLayout& of = arena.of(kv_class);
    const int64_t bytes = layout.of(kv_class).page_bytes();
    if (bytes == 0 ? of.pages_per_slab == 0
                   : of.page_stride >= bytes && of.pages_per_slab * of.page_stride <= arena.slab_bytes) {
      continue;
    }
    return absl::InvalidArgumentError(absl::StrCat("an arena with pages of ", of.page_stride, " bytes, ",
                                                   of.pages_per_slab, " in ", arena.slab_bytes,
                                                   ", does not hold this model's of ", bytes));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<KvPool> KvPool::Make(const KvLayout& layout, const ArenaLayout& device, const ArenaLayout& host,
                                    Backend& backend) {
  KvPool pool;
  pool.layout_ = layout;
  pool.backend_ = &backend;
  pool.device_.layout = device;
  HYSPARSE_RETURN_IF_ERROR(CheckArena(layout, device));
  HYSPARSE_ASSIGN_OR_RETURN(pool.device_.memory, backend.Allocate(static_cast<size_t>(device.bytes())));
  if (host.slabs == 0) return pool;
  pool.host_.layout = host;
  HYSPARSE_RETURN_IF_ERROR(CheckArena(layout, host));
  HYSPARSE_ASSIGN_OR_RETURN(pool.host_.memory, backend.AllocateHost(static_cast<size_t>(host.bytes())));
  return pool;
}

PagedKv KvPool::View(size_t layer) const {
  const KvLayerLayout& place = layout_.layers[layer];
  PagedKv kv;
  kv.base = device_.memory.get() + place.offset;
  kv.page_stride = device_.layout.of(place.kv_class).page_stride;
  kv.v_offset = place.v_offset;
  kv.page_tokens = layout_.of(place.kv_class).page_tokens;
  kv.kv_heads = place.kv_heads;
  kv.qk_dim = place.qk_dim;
  kv.v_dim = place.v_dim;
  kv.dtype = layout_.dtype;
  return kv;
}

void KvPool::Copy(const OpContext& ctx, const StepPlan& plan) const {
  Copy(ctx, CopyRoute::kDeviceToHost, plan.spills, device_, host_);
  Copy(ctx, CopyRoute::kDeviceToDevice, plan.moves, device_, device_);
  Copy(ctx, CopyRoute::kHostToDevice, plan.returns, host_, device_);
}

void KvPool::Copy(const OpContext& ctx, CopyRoute route, const std::vector<PageCopy>& copies, const Arena& from,
                  const Arena& to) const {
  for (const PageCopy& copy : copies) {
    CopyParams p;
    p.route = route;
    p.from = from.page(copy.kv_class, copy.from);
    p.to = to.page(copy.kv_class, copy.to);
    p.bytes = layout_.of(copy.kv_class).page_bytes();
    if (p.from != p.to) backend_->Copy(ctx, p);
  }
}

}  // namespace hysparse
