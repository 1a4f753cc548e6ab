// The vector loops of the ops that are not matrix products or attention: plain functions on rows, one table per
// instruction set. What a row yields does not depend on where it lies or on which lanes hold it: partial vectors run
// through the same arithmetic as full ones. Any thread.
//
// Accuracy, against the exact function: exp within 2 ulp, sigmoid within 3 ulp, cos and sin correctly rounded but for
// double rounding (the angle position * inv_freq is formed and reduced in double precision).
//
// Included by per-ISA sources: no header with inline functions of external linkage here.
#pragma once

#include <cstdint>

namespace hysparse::cpu {

enum class RowType : uint8_t { kF32, kBF16, kF16 };

// A row to write: f32 or bf16, rounded to nearest even.
struct RowOut {
  void* data = nullptr;
  bool bf16 = false;
};

struct RowOps {
  // to f32
  void (*widen)(const void* x, RowType type, int64_t n, float* out);
  // residual += delta (unless null); out = residual / rms(residual) * weight (unless out.data is null).
  void (*add_norm)(float* residual, const float* delta, const float* weight, int n, float eps, RowOut out);
  // cos and sin of position * inv_freq[0…n), times scale.
  void (*rotation)(double position, const float* inv_freq, int n, float scale, float* cos, float* sin);
  // (a, b) <- (a cos - b sin, b cos + a sin)
  void (*rotate)(float* a, float* b, const float* cos, const float* sin, int n);
  // σ(gate_a) a + σ(gate_b) b; the second term only where b is not null.
  void (*gate)(const float* a, const float* gate_a, const float* b, const float* gate_b, int64_t n, RowOut out);
  // The same with one gate value for the row.
  void (*gate_all)(const float* a, float gate_a, const float* b, float gate_b, int64_t n, RowOut out);
  // silu(gate) up
  void (*swiglu)(const float* gate, const float* up, int64_t n, RowOut out);
  // x <- softmax(x), x <- sigmoid(x)
  void (*softmax)(float* x, int n);
  void (*sigmoid)(float* x, int n);
  // out[r, e] = x[r, :] · w[e, :]; rows n apart in x and w, out_stride apart in out.
  void (*dots)(const float* x, int rows, const float* w, int experts, int n, float* out, int64_t out_stride);
  // out = Σ weight[i] · rows[place[i], :], added in order, from zero; rows [*, n].
  void (*weighted_sum)(const float* rows, const int32_t* place, const float* weight, int count, int64_t n, float* out);
};

extern const RowOps kRowOpsAvx2;
extern const RowOps kRowOpsAvx512;

}  // namespace hysparse::cpu
