#include "engine/kv/residency.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "engine/base/ceil_div.h"
#include "engine/model/rebuild.h"

namespace hysparse {
namespace {

constexpr int32_t kPageTokens = 64;

KvClass ClassOf(const LayerSpec& layer) { return layer.kind == LayerKind::kFull ? KvClass::kGlobal : KvClass::kWindow; }

int32_t RankHeads(const LayerSpec& layer, int32_t ranks) {
  return static_cast<int32_t>(CeilDiv(layer.kv_heads, std::max(1, ranks)));
}

int64_t TokenElements(const LayerSpec& layer, int32_t ranks = 1) {
  return int64_t{RankHeads(layer, ranks)} * (int64_t{layer.qk_dim} + layer.v_dim);
}

int32_t GlobalPageTokens(const ModelSpec& spec) {
  int64_t page = 1;
  bool fits = true;
  for (const LayerSpec& layer : spec.layers) {
    if (layer.kind != LayerKind::kSparse) continue;
    fits = fits && (kPageTokens % layer.block == 0 || layer.block % kPageTokens == 0);
    page = std::lcm<int64_t>(page, layer.block);
  }
  if (fits) return kPageTokens;
  return static_cast<int32_t>(page * std::max<int64_t>(1, kPageTokens / page));
}

}  // namespace

int64_t KvClassLayout::PagesFor(int64_t tokens) const {
  if (layers == 0 || tokens <= 0) return 0;
  const int64_t first = window == 0 ? 0 : std::max<int64_t>(0, tokens - window) / page_tokens;
  return CeilDiv(tokens, page_tokens) - first;
}

int64_t KvClassLayout::MaxPages(int64_t tokens, int64_t step_tokens) const {
  if (layers == 0 || tokens <= 0) return 0;
  const int64_t all = CeilDiv(tokens, page_tokens);
  if (window == 0) return all;
  // A step at positions [p, p + s) reads from p - window + 1: a run of window - 1 + s tokens, wherever it starts.
  const int64_t run = std::min(tokens, int64_t{window} - 1 + std::max<int64_t>(1, step_tokens));
  return std::min(all, CeilDiv(run - 1, page_tokens) + 1);
}

KvBytes KvLayout::AllocatedBytes(int64_t tokens) const {
  return {global.PagesFor(tokens) * global.page_bytes(), window.PagesFor(tokens) * window.page_bytes()};
}

KvLayout MakeKvLayout(const ModelSpec& spec, DType dtype, int32_t tensor_parallel) {
  KvLayout layout;
  layout.dtype = dtype;
  layout.global.page_tokens = GlobalPageTokens(spec);
  for (const LayerSpec& layer : spec.layers) layout.window.window = std::max(layout.window.window, layer.window);
  const int32_t most = std::clamp(layout.window.window, 1, kPageTokens);
  layout.window.page_tokens = static_cast<int32_t>(std::bit_floor(static_cast<uint32_t>(most)));

  const int64_t element = static_cast<int64_t>(SizeOf(dtype));
  for (const LayerSpec& layer : spec.layers) {
    const KvClass kv_class = ClassOf(layer);
    KvClassLayout& of = kv_class == KvClass::kGlobal ? layout.global : layout.window;
    KvLayerLayout place;
    place.kv_class = kv_class;
    place.offset = of.page_bytes();  // the layers before this one
    place.kv_heads = RankHeads(layer, tensor_parallel);
    place.v_offset = int64_t{place.kv_heads} * of.page_tokens * layer.qk_dim * element;
    place.qk_dim = layer.qk_dim;
    place.v_dim = layer.v_dim;
    layout.layers.push_back(place);
    of.token_bytes += TokenElements(layer, tensor_parallel) * element;
    ++of.layers;
  }
  return layout;
}

int64_t RebuildTokens(const ModelSpec& spec) { return RebuildRows(spec).front(); }

KvBytes ResidentBytes(const ModelSpec& spec, int64_t tokens, int64_t element_bytes, int32_t tensor_parallel) {
  KvBytes bytes;
  for (const LayerSpec& layer : spec.layers) {
    const int64_t each = TokenElements(layer, tensor_parallel) * element_bytes;
    if (ClassOf(layer) == KvClass::kGlobal) {
      bytes.global += each * tokens;
    } else {
      bytes.window += each * std::min<int64_t>(tokens, layer.window);
    }
  }
  return bytes;
}

int64_t FullAttentionBytes(const ModelSpec& spec, int64_t tokens, int64_t element_bytes) {
  const LayerSpec* full = nullptr;
  for (const LayerSpec& layer : spec.layers) {
    if (layer.kind == LayerKind::kFull && full == nullptr) full = &layer;
  }
  int64_t bytes = 0;
  for (const LayerSpec& layer : spec.layers) bytes += TokenElements(full ? *full : layer) * element_bytes * tokens;
  return bytes;
}

}  // namespace hysparse
