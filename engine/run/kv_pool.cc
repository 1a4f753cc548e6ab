#include "engine/run/kv_pool.h"

#include "absl/strings/str_cat.h"
#include "engine/base/result.h"

namespace hysparse {
namespace {

absl::StatusOr<std::shared_ptr<std::byte>> AllocatePages(int64_t pages, int64_t page_bytes, Backend& backend) {
  int64_t bytes = 0;
  if (pages < 0 || pages > std::numeric_limits<int32_t>::max() || __builtin_mul_overflow(pages, page_bytes, &bytes))
    return absl::InvalidArgumentError(absl::StrCat(pages, " KV pages of ", page_bytes, " bytes cannot be addressed"));
  if (bytes == 0) return std::shared_ptr<std::byte>();
  return backend.Allocate(static_cast<size_t>(bytes));
}

}  // namespace

absl::StatusOr<KvPool> KvPool::Make(const KvLayout& layout, int64_t global_pages, int64_t window_pages,
                                    Backend& backend) {
  KvPool pool;
  pool.layout_ = layout;
  pool.global_pages_ = global_pages;
  pool.window_pages_ = window_pages;
  HYSPARSE_ASSIGN_OR_RETURN(pool.global_, AllocatePages(global_pages, layout.global.page_bytes(), backend));
  HYSPARSE_ASSIGN_OR_RETURN(pool.window_, AllocatePages(window_pages, layout.window.page_bytes(), backend));
  return pool;
}

PagedKv KvPool::View(size_t layer) const {
  const KvLayerLayout& place = layout_.layers[layer];
  const KvClassLayout& of = layout_.of(place.kv_class);
  PagedKv kv;
  std::byte* base = (place.kv_class == KvClass::kGlobal ? global_ : window_).get();
  kv.base = base == nullptr ? nullptr : base + place.offset;
  kv.page_stride = of.page_bytes();
  kv.v_offset = place.v_offset;
  kv.page_tokens = of.page_tokens;
  kv.kv_heads = place.kv_heads;
  kv.qk_dim = place.qk_dim;
  kv.v_dim = place.v_dim;
  kv.dtype = layout_.dtype;
  return kv;
}

}  // namespace hysparse
