// The loops of RowOps, written once over the vectors of vec_avx2.h or vec_avx512.h: include one of them first.
// Everything has internal linkage, so that each instruction set keeps its own copy.
#pragma once

#include "kernels/cpu/row_ops.h"
#include "kernels/cpu/vec_math.h"

namespace hysparse::cpu {
namespace {

inline int Part(int64_t left) { return left < kLanes ? static_cast<int>(left) : kLanes; }

inline void Put(RowOut out, int64_t i, int n, Vec x) {
  if (out.bf16) {
    StoreBf16(static_cast<uint16_t*>(out.data) + i, n, x);
  } else {
    Store(static_cast<float*>(out.data) + i, n, x);
  }
}

void Widen(const void* x, RowType type, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const int part = Part(n - i);
    const auto* narrow = static_cast<const uint16_t*>(x) + i;
    Store(out + i, part,
          type == RowType::kF32    ? Load(static_cast<const float*>(x) + i, part)
          : type == RowType::kBF16 ? LoadBf16(narrow, part)
                                   : LoadF16(narrow, part));
  }
}

void AddNorm(float* residual, const float* delta, const float* weight, int n, float eps, RowOut out) {
  Vec sums[4] = {Set(0), Set(0), Set(0), Set(0)};
  for (int64_t i = 0, turn = 0; i < n; i += kLanes, turn = (turn + 1) % 4) {
    const int part = Part(n - i);
    Vec x = Load(residual + i, part);
    if (delta != nullptr) {
      x = Add(x, Load(delta + i, part));
      Store(residual + i, part, x);
    }
    sums[turn] = Fma(x, x, sums[turn]);
  }
  if (out.data == nullptr) return;
  const float mean = Sum(Add(Add(sums[0], sums[1]), Add(sums[2], sums[3]))) / static_cast<float>(n);
  const Vec factor = Set(1.0f / __builtin_sqrtf(mean + eps));
  for (int64_t i = 0; i < n; i += kLanes) {
    const int part = Part(n - i);
    Put(out, i, part, Mul(Mul(Load(residual + i, part), factor), Load(weight + i, part)));
  }
}

void Rotation(double position, const float* inv_freq, int n, float scale, float* cos, float* sin) {
  for (int i = 0; i < n; i += kDoubleLanes) {
    const int part = n - i < kDoubleLanes ? n - i : kDoubleLanes;
    Doubles c, s;
    CosSin(MulD(SetD(position), LoadAsDoubles(inv_freq + i, part)), c, s);
    StoreAsFloats(cos + i, part, MulD(c, SetD(scale)));
    StoreAsFloats(sin + i, part, MulD(s, SetD(scale)));
  }
}

void Rotate(float* a, float* b, const float* cos, const float* sin, int n) {
  for (int i = 0; i < n; i += kLanes) {
    const int part = Part(n - i);
    const Vec x = Load(a + i, part), y = Load(b + i, part), c = Load(cos + i, part), s = Load(sin + i, part);
    Store(a + i, part, Sub(Mul(x, c), Mul(y, s)));
    Store(b + i, part, Fma(y, c, Mul(x, s)));
  }
}

void Gate(const float* a, const float* gate_a, const float* b, const float* gate_b, int64_t n, RowOut out) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const int part = Part(n - i);
    Vec y = Mul(Sigmoid(Load(gate_a + i, part)), Load(a + i, part));
    if (b != nullptr) y = Fma(Sigmoid(Load(gate_b + i, part)), Load(b + i, part), y);
    Put(out, i, part, y);
  }
}

void GateAll(const float* a, float gate_a, const float* b, float gate_b, int64_t n, RowOut out) {
  const Vec factor_a = Sigmoid(Set(gate_a)), factor_b = Sigmoid(Set(gate_b));
  for (int64_t i = 0; i < n; i += kLanes) {
    const int part = Part(n - i);
    Vec y = Mul(factor_a, Load(a + i, part));
    if (b != nullptr) y = Fma(factor_b, Load(b + i, part), y);
    Put(out, i, part, y);
  }
}

void SwiGlu(const float* gate, const float* up, int64_t n, RowOut out) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const int part = Part(n - i);
    const Vec x = Load(gate + i, part);
    Put(out, i, part, Mul(Mul(x, Sigmoid(x)), Load(up + i, part)));
  }
}

void Softmax(float* x, int n) {
  const float none = -__builtin_inff();
  Vec best = Set(none);
  for (int i = 0; i < n; i += kLanes) best = Max(FillAfter(Load(x + i, Part(n - i)), Part(n - i), none), best);
  const Vec top = Set(Largest(best));
  Vec sum = Set(0);
  for (int i = 0; i < n; i += kLanes) {
    const int part = Part(n - i);
    const Vec y = FillAfter(Exp(Sub(Load(x + i, part), top)), part, 0.0f);
    Store(x + i, part, y);
    sum = Add(sum, y);
  }
  const Vec total = Set(Sum(sum));
  for (int i = 0; i < n; i += kLanes) Store(x + i, Part(n - i), Div(Load(x + i, Part(n - i)), total));
}

void SigmoidRow(float* x, int n) {
  for (int i = 0; i < n; i += kLanes) Store(x + i, Part(n - i), Sigmoid(Load(x + i, Part(n - i))));
}

// R rows × E experts; one accumulator each, so that the blocking does not show in the result.
template <int R, int E>
void DotBlock(const float* x, const float* w, int n, float* out, int64_t out_stride) {
  Vec sums[R][E];
  for (auto& row : sums) {
    for (Vec& sum : row) sum = Set(0);
  }
  for (int i = 0; i < n; i += kLanes) {
    const int part = Part(n - i);
    Vec column[E];
#pragma GCC unroll 4
    for (int e = 0; e < E; ++e) column[e] = Load(w + int64_t{e} * n + i, part);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Vec value = Load(x + int64_t{r} * n + i, part);
#pragma GCC unroll 4
      for (int e = 0; e < E; ++e) sums[r][e] = Fma(value, column[e], sums[r][e]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int e = 0; e < E; ++e) out[r * out_stride + e] = Sum(sums[r][e]);
  }
}

template <int E>
void DotColumns(const float* x, int rows, const float* w, int n, float* out, int64_t out_stride) {
  constexpr int kRows = kLanes == 16 ? 4 : 2;
  int r = 0;
  for (; r + kRows <= rows; r += kRows) DotBlock<kRows, E>(x + int64_t{r} * n, w, n, out + r * out_stride, out_stride);
  for (; r < rows; ++r) DotBlock<1, E>(x + int64_t{r} * n, w, n, out + r * out_stride, out_stride);
}

void Dots(const float* x, int rows, const float* w, int experts, int n, float* out, int64_t out_stride) {
  int e = 0;
  for (; e + 4 <= experts; e += 4) DotColumns<4>(x, rows, w + int64_t{e} * n, n, out + e, out_stride);
  for (; e < experts; ++e) DotColumns<1>(x, rows, w + int64_t{e} * n, n, out + e, out_stride);
}

void WeightedSum(const float* rows, const int32_t* place, const float* weight, int count, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const int part = Part(n - i);
    Vec sum = Set(0);
    for (int j = 0; j < count; ++j) sum = Fma(Set(weight[j]), Load(rows + place[j] * n + i, part), sum);
    Store(out + i, part, sum);
  }
}

constexpr RowOps kRowOps = {Widen,  AddNorm, Rotation,   Rotate, Gate,       GateAll,
                            SwiGlu, Softmax, SigmoidRow, Dots,   WeightedSum};

}  // namespace
}  // namespace hysparse::cpu
