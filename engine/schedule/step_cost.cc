#include "engine/schedule/step_cost.h"

#include <algorithm>
#include <cmath>

namespace hysparse {

TokenWork WorkOf(const ModelSpec& spec) {
  TokenWork work;
  const double hidden = spec.hidden;
  for (const LayerSpec& layer : spec.layers) {
    const double head = layer.qk_dim + layer.v_dim, heads = layer.heads;
    const double gate = spec.gate_per_head ? heads : heads * layer.v_dim;
    double columns = heads * layer.qk_dim + layer.kv_heads * head + heads * layer.v_dim;  // q, k, v and o
    if (layer.gate) columns += gate;
    if (layer.sparse_gate) columns += gate;
    work.fixed += hidden * columns;
    const MoeSpec& moe = spec.moe;
    const double expert_width = static_cast<double>(moe.width) * moe.experts_per_token + moe.shared_width;
    work.fixed += 3 * hidden * (layer.moe ? expert_width : spec.intermediate) + (layer.moe ? hidden * moe.experts : 0);
    const double selected = layer.kind == LayerKind::kSparse ? static_cast<double>(layer.block) * layer.top_blocks : 0;
    work.fixed += heads * head * (layer.window + selected);
    if (layer.kind == LayerKind::kFull) work.per_key += heads * head;
  }
  return work;
}

StepCost::StepCost(const ModelSpec& spec) {
  const TokenWork work = WorkOf(spec);
  if (work.fixed > 0) per_key_ = work.per_key / work.fixed;
}

double StepCost::Of(int32_t position, int32_t count) const {
  return count * (1.0 + per_key_ * (position + 0.5 * count));
}

int32_t StepCost::TokensFor(int32_t position, double budget) const {
  if (budget <= 0) return 0;
  // count + per_key (position count + count² / 2) = budget
  const double linear = 1.0 + per_key_ * position;
  const double count =
      per_key_ == 0 ? budget : 2 * budget / (linear + std::sqrt(linear * linear + 2 * per_key_ * budget));
  return static_cast<int32_t>(std::min(count, 1e9));
}

}  // namespace hysparse
