// KV residency: what a sequence keeps, in bytes and in pages. The one formula behind the start-up summary, admission,
// the metrics, `hysparse plan` and the layout of the KV arena itself. Pure arithmetic on a ModelSpec; any thread.
//
// A model has two KV classes: `global` holds every token of its full layers, `window` the last `window` tokens of its
// SWA and sparse layers (a sparse layer reads its oracle's global pages besides). A page holds `page_tokens` tokens of
// every layer of its class:
//
//   page:  layer, then K [kv_heads][page_tokens][qk_dim], then V [kv_heads][page_tokens][v_dim], nothing between
//
// so one layer's part of a page moves alone, and page p of the class lies at base + p * page_stride (arena_layout.h). A
// window page is freed as soon as its last token leaves the window. Source: the HySparse specification, section 4.
//
// Of `tensor_parallel` ranks each holds its share of a layer's KV heads, rounded up: a rank has one at least. Bytes are
// one rank's.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/model/model_spec.h"
#include "kernels/dtype.h"

namespace hysparse {

enum class KvClass : uint8_t { kGlobal = 0, kWindow = 1 };
inline constexpr KvClass kKvClasses[] = {KvClass::kGlobal, KvClass::kWindow};

// One KV class of a model. All zero when no layer belongs to it.
struct KvClassLayout {
  int32_t layers = 0;
  int32_t page_tokens = 0;
  int32_t window = 0;       // tokens kept; 0: all (global)
  int64_t token_bytes = 0;  // of all the class's layers
  int64_t page_bytes() const { return token_bytes * page_tokens; }

  // Pages that hold the last min(n, window) of n tokens, the window's edges rounded outwards to whole pages.
  int64_t PagesFor(int64_t tokens) const;
  // The most pages a sequence of at most `tokens` tokens holds while a step appends up to `step_tokens` of them: in the
  // window class, those that the first of the step's tokens still reads and those that the last one writes.
  int64_t MaxPages(int64_t tokens, int64_t step_tokens) const;
};

// Where one layer's K and V lie inside a page of its class.
struct KvLayerLayout {
  KvClass kv_class = KvClass::kGlobal;
  int64_t offset = 0;    // bytes from the page's start to K
  int64_t v_offset = 0;  // bytes from K to V
  int32_t kv_heads = 0, qk_dim = 0, v_dim = 0;
};

struct KvBytes {
  int64_t global = 0, window = 0;
  int64_t total() const { return global + window; }
};

struct KvLayout {
  DType dtype = DType::kF32;
  KvClassLayout global, window;
  std::vector<KvLayerLayout> layers;  // one per model layer

  const KvClassLayout& of(KvClass kv_class) const { return kv_class == KvClass::kGlobal ? global : window; }
  // The formula with n and the window rounded up to whole pages: exactly what a sequence of n tokens has allocated.
  KvBytes AllocatedBytes(int64_t tokens) const;
};

// Page sizes follow from the model: 64 tokens in the global class, or a multiple of the selection block where that
// neither divides 64 nor is a multiple of it; in the window class the largest power of two <= min(64, window).
KvLayout MakeKvLayout(const ModelSpec& spec, DType dtype, int32_t tensor_parallel = 1);

// Tokens before position M that must run again, with the full layers' K and V of all before M at hand, so that the
// window layers hold what token M reads (engine/model/rebuild.h says why). Running M too makes it w + (n - 1)(w - 1)
// rows for n layers of window w.
int64_t RebuildTokens(const ModelSpec& spec);

// The formula of the papers: exact bytes that a sequence of n tokens keeps, `element_bytes` each, no page rounding.
KvBytes ResidentBytes(const ModelSpec& spec, int64_t tokens, int64_t element_bytes, int32_t tensor_parallel = 1);
// The same if every layer were a full layer with the full layers' KV heads and head sizes.
int64_t FullAttentionBytes(const ModelSpec& spec, int64_t tokens, int64_t element_bytes);

}  // namespace hysparse
