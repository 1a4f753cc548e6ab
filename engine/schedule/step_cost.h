// StepCost: what a prefill chunk costs, in tokens at position 0. A token at depth p reads p keys in every full layer,
// so 2,048 tokens at position 150,000 may cost several times 2,048 at the start; a step whose chunks share a budget of
// such units keeps its time, whatever the depth. Pure arithmetic; any thread.
#pragma once

#include <cstdint>

#include "engine/model/model_spec.h"

namespace hysparse {

// Multiply-adds a token costs: those that every token costs alike (projections, MLP or active experts, windows,
// selected blocks), and those for each key in each full layer.
struct TokenWork {
  double fixed = 0, per_key = 0;
};
TokenWork WorkOf(const ModelSpec& spec);

class StepCost {
 public:
  // Every token costs the same.
  StepCost() = default;
  explicit StepCost(const ModelSpec& spec);

  // Of `count` tokens from `position` on.
  double Of(int32_t position, int32_t count) const;
  // The most tokens from `position` on that cost at most `budget`.
  int32_t TokensFor(int32_t position, double budget) const;

 private:
  double per_key_ = 0;  // of a token, per token of depth
};

}  // namespace hysparse
