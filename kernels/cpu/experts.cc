// Experts: (token, expert) pairs, here slots, sorted by expert; one group of gated products for the gate and up
// projections of all experts that have rows, one for the down projections; then each token's weighted sum over its
// slots in ascending expert order.
#include <algorithm>
#include <cstring>
#include <span>

#include "kernels/cpu/ops.h"
#include "kernels/cpu/share_rows.h"

namespace hysparse::cpu {
namespace {

constexpr int64_t kSlots = 8192;  // of one pass: bounds the workspace, and is many rows an expert
constexpr double kSumNs = 0.2;

int64_t PassTokens(int64_t tokens, int64_t top) { return std::min(tokens, std::max<int64_t>(kSlots / top, 1)); }

// The workspace of one pass, cut up.
struct Slots {
  uint64_t* key;        // [slots] expert << 32 | slot, sorted
  int32_t* place;       // [slots] where a slot went
  GemmParams* product;  // [slots] one per expert with rows
  std::byte* x;         // [slots, hidden] compute dtype
  std::byte* inner;     // [slots, width] compute dtype
  float* down;          // [slots, hidden]
  size_t bytes;
};

Slots Layout(std::byte* base, int64_t slots, int64_t hidden, int64_t width, DType compute) {
  size_t at = 0;
  const auto take = [&](size_t bytes) {
    std::byte* start = base + at;
    at += (bytes * slots + 63) / 64 * 64;
    return start;
  };
  Slots s;
  s.key = reinterpret_cast<uint64_t*>(take(sizeof(uint64_t)));
  s.place = reinterpret_cast<int32_t*>(take(sizeof(int32_t)));
  s.product = reinterpret_cast<GemmParams*>(take(sizeof(GemmParams)));
  s.x = take(hidden * SizeOf(compute));
  s.inner = take(width * SizeOf(compute));
  s.down = reinterpret_cast<float*>(take(hidden * sizeof(float)));
  s.bytes = at;
  return s;
}

// Fills in key and place: slots by expert, then by token.
void SortByExpert(const int32_t* ids, int64_t slots, const Slots& s) {
  for (int64_t i = 0; i < slots; ++i) s.key[i] = uint64_t(ids[i]) << 32 | uint64_t(i);
  std::sort(s.key, s.key + slots);
  for (int64_t i = 0; i < slots; ++i) s.place[s.key[i] & 0xffffffff] = static_cast<int32_t>(i);
}

// One product per expert that has rows: from [slots, cols] of the compute dtype to [slots, out_cols] of `out_dtype`.
std::span<GemmParams> Products(const Slots& s, int64_t slots, const PackedMatrix* const* weights,
                               const PackedMatrix* const* gates, const std::byte* in, DType compute, void* out,
                               DType out_dtype) {
  int64_t count = 0;
  for (int64_t begin = 0, end = 0; begin < slots; begin = end) {
    const uint64_t expert = s.key[begin] >> 32;
    while (end < slots && s.key[end] >> 32 == expert) ++end;
    GemmParams product;
    product.weight = weights[expert];
    product.gate = gates == nullptr ? nullptr : gates[expert];
    product.a_stride = product.weight->cols();
    product.out_stride = product.weight->rows();
    product.a = in + begin * product.a_stride * static_cast<int64_t>(SizeOf(compute));
    product.out = static_cast<std::byte*>(out) + begin * product.out_stride * static_cast<int64_t>(SizeOf(out_dtype));
    product.out_dtype = out_dtype;
    product.rows = static_cast<int32_t>(end - begin);
    s.product[count++] = product;
  }
  return {s.product, static_cast<size_t>(count)};
}

}  // namespace

size_t ExpertsWorkspaceBytes(const StepLimits& limits, DType compute) {
  if (limits.experts_per_token <= 0) return 0;
  const int64_t slots = PassTokens(limits.max_tokens, limits.experts_per_token) * limits.experts_per_token;
  return Layout(nullptr, slots, limits.hidden, limits.expert_width, compute).bytes;
}

void Experts(const Machine& machine, GemmEngine& gemm, DType compute, const OpContext& ctx, const ExpertsParams& p) {
  const int64_t pass = PassTokens(p.num_tokens, p.top);
  const size_t row_bytes = p.hidden * SizeOf(compute);
  const Slots s = Layout(ctx.workspace, pass * p.top, p.hidden, p.width, compute);
  for (int64_t first = 0; first < p.num_tokens; first += pass) {
    const int64_t tokens = std::min(pass, p.num_tokens - first);
    const int64_t slots = tokens * p.top;
    SortByExpert(p.ids + first * p.top, slots, s);
    const auto* x = static_cast<const std::byte*>(p.x) + first * row_bytes;
    ShareRows(machine.pool, slots, p.hidden * kCopyNs, [&](int64_t i) {
      std::memcpy(s.x + i * row_bytes, x + (s.key[i] & 0xffffffff) / p.top * row_bytes, row_bytes);
    });
    gemm.RunGroup(Products(s, slots, p.up, p.gate, s.x, compute, s.inner, compute));
    gemm.RunGroup(Products(s, slots, p.down, nullptr, s.inner, compute, s.down, DType::kF32));
    ShareRows(machine.pool, tokens, p.hidden * p.top * kSumNs, [&](int64_t t) {
      machine.rows.weighted_sum(s.down, s.place + t * p.top, p.weights + (first + t) * p.top, p.top, p.hidden,
                                p.out + (first + t) * p.hidden);
    });
  }
}

}  // namespace hysparse::cpu
