#include "server/cli/bench_work.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace hysparse {
namespace {

struct Matrix {
  int64_t in = 0, out = 0;
  double rows_share = 1;  // of the tokens that go through it
};

int64_t GateWidth(const ModelSpec& spec, const LayerSpec& layer) {
  const int64_t one = spec.gate_per_head ? layer.heads : int64_t{layer.heads} * layer.v_dim;
  return one * ((layer.gate ? 1 : 0) + (layer.sparse_gate ? 1 : 0));
}

// Every matrix of a layer, q, k, v and gates fused, gate and up fused: as the backend runs them.
std::vector<Matrix> Matrices(const ModelSpec& spec, const LayerSpec& layer) {
  const int64_t hidden = spec.hidden, heads = layer.heads, groups = layer.kv_heads;
  const int64_t qkv = heads * layer.qk_dim + groups * (layer.qk_dim + layer.v_dim) + GateWidth(spec, layer);
  std::vector<Matrix> matrices = {{hidden, qkv}, {heads * layer.v_dim, hidden}};
  if (!layer.moe) {
    matrices.push_back({hidden, 2 * int64_t{spec.intermediate}});
    matrices.push_back({spec.intermediate, hidden});
    return matrices;
  }
  const MoeSpec& moe = spec.moe;
  const double share = static_cast<double>(moe.experts_per_token) / moe.experts;
  for (int32_t expert = 0; expert < moe.experts; ++expert) {
    matrices.push_back({hidden, 2 * int64_t{moe.width}, share});
    matrices.push_back({moe.width, hidden, share});
  }
  if (moe.shared_width > 0) {
    matrices.push_back({hidden, 2 * int64_t{moe.shared_width}});
    matrices.push_back({moe.shared_width, hidden});
  }
  return matrices;
}

// Keys that the query at position t sees in this layer, both branches of a sparse layer together.
int64_t KeysSeen(const LayerSpec& layer, int64_t t) {
  const int64_t all = t + 1;
  switch (layer.kind) {
    case LayerKind::kFull:
      return all;
    case LayerKind::kSwa:
      return std::min<int64_t>(all, layer.window);
    case LayerKind::kSparse:
      return std::min<int64_t>(all, layer.window) + std::min<int64_t>(all, int64_t{layer.block} * layer.top_blocks);
  }
  return all;
}

}  // namespace

std::vector<GemmWork> PrefillProjections(const ModelSpec& spec, int64_t tokens) {
  std::map<std::tuple<int64_t, int64_t, int64_t>, int64_t> counts;
  for (const LayerSpec& layer : spec.layers) {
    for (const Matrix& matrix : Matrices(spec, layer)) {
      const auto rows = std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(tokens) * matrix.rows_share));
      ++counts[{rows, matrix.in, matrix.out}];
    }
  }
  std::vector<GemmWork> work;
  work.reserve(counts.size());
  for (const auto& [shape, count] : counts)
    work.push_back({std::get<0>(shape), std::get<1>(shape), std::get<2>(shape), count});
  return work;
}

double PrefillFlops(const ModelSpec& spec, int64_t tokens) {
  double flops = 2.0 * spec.hidden * spec.vocab;
  for (const GemmWork& work : PrefillProjections(spec, tokens)) flops += work.flops();
  for (const LayerSpec& layer : spec.layers) {
    double keys = 0;
    for (int64_t t = 0; t < tokens; ++t) keys += static_cast<double>(KeysSeen(layer, t));
    flops += 2.0 * keys * layer.heads * (layer.qk_dim + layer.v_dim);
  }
  return flops;
}

int64_t DecodeParameters(const ModelSpec& spec) {
  double parameters = static_cast<double>(spec.hidden) * spec.vocab;
  for (const LayerSpec& layer : spec.layers) {
    for (const Matrix& matrix : Matrices(spec, layer)) {
      parameters += static_cast<double>(matrix.in * matrix.out) * matrix.rows_share;
    }
  }
  return static_cast<int64_t>(parameters);
}

int64_t DecodeKvElements(const ModelSpec& spec, int64_t context) {
  int64_t elements = 0;
  for (const LayerSpec& layer : spec.layers) {
    elements += KeysSeen(layer, context) * layer.kv_heads * (layer.qk_dim + layer.v_dim);
  }
  return elements;
}

}  // namespace hysparse
