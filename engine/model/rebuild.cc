#include "engine/model/rebuild.h"

namespace hysparse {

std::vector<int64_t> RebuildRows(const ModelSpec& spec) {
  std::vector<int64_t> need(spec.layers.size() + 1, 0);
  for (size_t l = spec.layers.size(); l-- > 0;) {
    const LayerSpec& layer = spec.layers[l];
    need[l] = need[l + 1] + (layer.kind == LayerKind::kFull ? 0 : layer.window - 1);
  }
  return need;
}

}  // namespace hysparse
