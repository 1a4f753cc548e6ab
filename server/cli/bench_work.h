// What a model's forward pass must do at the least: the figures that bench divides by time. Pure arithmetic on a
// ModelSpec; any thread.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/model/model_spec.h"

namespace hysparse {

// `count` products of [rows, in] by [in, out].
struct GemmWork {
  int64_t rows = 0, in = 0, out = 0, count = 0;
  double flops() const {
    return 2.0 * static_cast<double>(rows) * static_cast<double>(in) * static_cast<double>(out * count);
  }
};

// The projections of a prefill of `tokens` tokens (of MoE layers the experts that are active, shared evenly), one entry
// per shape. The output matrix is apart: a prefill needs one row of it.
std::vector<GemmWork> PrefillProjections(const ModelSpec& spec, int64_t tokens);

// FLOPs of a prefill of `tokens` tokens: projections and causal attention (scores and values of the keys that each
// query may see: all, the window, or the selected blocks).
double PrefillFlops(const ModelSpec& spec, int64_t tokens);

// Weights that one token of a decode reads: every matrix once, of MoE layers the active experts.
int64_t DecodeParameters(const ModelSpec& spec);

// K and V elements that a token at position `context` reads.
int64_t DecodeKvElements(const ModelSpec& spec, int64_t context);

}  // namespace hysparse
