// The micro-kernels on fp32 rows and the fp32 product, written once over `Simd`, 16 floats. Include one of simd_*.h
// first; everything has internal linkage, so that each instruction set keeps its own copy.
#pragma once

#include <cstdint>

#include "kernels/cpu/attention/micro_kernels.h"

namespace hysparse::cpu {
namespace {

using V = Simd::V;

constexpr float kMinusInfinity = -__builtin_inff();

void NoSetup() {}

// 2^x for x <= 0 (a rounding error above it does no harm); below 2^-126 it stays there. A minimax fit of 2^f on
// [-1/2, 1/2]: relative error 2e-9 before rounding, under 1.5 ulp after.
inline V Exp2(V x) {
  x = Simd::Max(x, Simd::Set(-126.0f));
  const V n = Simd::Round(x);
  const V f = Simd::Sub(x, n);
  V y = Simd::Fma(Simd::Set(0.00015345812f), f, Simd::Set(0.0013399931f));
  y = Simd::Fma(y, f, Simd::Set(0.009618489f));
  y = Simd::Fma(y, f, Simd::Set(0.055503286f));
  y = Simd::Fma(y, f, Simd::Set(0.24022646f));
  y = Simd::Fma(y, f, Simd::Set(0.6931472f));
  y = Simd::Fma(y, f, Simd::Set(1.0f));
  return Simd::Scale(y, n);
}

// The four score vectors of tile t, -inf where masked.
inline void LoadScores(const float* scores, const KeyMask& mask, int t, V (&x)[kTileVectors]) {
  const V none = Simd::Set(kMinusInfinity);
#pragma GCC unroll 4
  for (int j = 0; j < kTileVectors; ++j) {
    x[j] = Simd::Load(scores + t * kTileKeys + j * kLanes);
    if (!(mask.full >> t & 1)) x[j] = Simd::Select(mask.lane[t * kTileVectors + j], x[j], none);
  }
}

float MaxRow(const float* scores, const KeyMask& mask, uint32_t tiles) {
  V best = Simd::Set(kMinusInfinity);
  for (tiles &= mask.any; tiles != 0; tiles &= tiles - 1) {
    V x[kTileVectors];
    LoadScores(scores, mask, __builtin_ctz(tiles), x);
    best = Simd::Max(best, Simd::Max(Simd::Max(x[0], x[1]), Simd::Max(x[2], x[3])));
  }
  return Simd::ReduceMax(best);
}

float MaxRowByBlock(const float* scores, const KeyMask& mask, uint32_t tiles, const int32_t* block_of_vector,
                    float* block_max) {
  float best = kMinusInfinity;
  auto raise = [&](int block, V x) {
    const float top = Simd::ReduceMax(x);
    if (top > block_max[block]) block_max[block] = top;
    if (top > best) best = top;
  };
  for (tiles &= mask.any; tiles != 0; tiles &= tiles - 1) {
    const int t = __builtin_ctz(tiles);
    const int32_t* block = block_of_vector + t * kTileVectors;
    V x[kTileVectors];
    LoadScores(scores, mask, t, x);
    if (block[0] == block[3]) {
      raise(block[0], Simd::Max(Simd::Max(x[0], x[1]), Simd::Max(x[2], x[3])));
    } else {
      for (int j = 0; j < kTileVectors; ++j) raise(block[j], x[j]);
    }
  }
  return best;
}

// exp_row over an exponential, and over what stores its results: store(t, j, vectors j and j + 1 of tile t).
template <class Exponential, class StorePair>
inline float ExpRowWith(const float* scores, const KeyMask& mask, uint32_t tiles, float scale, float peak,
                        Exponential exponential, StorePair store) {
  const V c = Simd::Set(scale), minus_peak = Simd::Set(-peak);
  V sum = Simd::Zero();
  for (; tiles != 0; tiles &= tiles - 1) {
    const int t = __builtin_ctz(tiles);
    const bool full = mask.full >> t & 1;
#pragma GCC unroll 2
    for (int j = 0; j < kTileVectors; j += 2) {
      V p[2];
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        p[i] = exponential(Simd::Fma(Simd::Load(scores + t * kTileKeys + (j + i) * kLanes), c, minus_peak));
        if (!full) p[i] = Simd::Select(mask.lane[t * kTileVectors + j + i], p[i], Simd::Zero());
        sum = Simd::Add(sum, p[i]);
      }
      store(t, j, p[0], p[1]);
    }
  }
  return Simd::ReduceAdd(sum);
}

float ExpRow(float* scores, const KeyMask& mask, uint32_t tiles, float scale, float peak) {
  return ExpRowWith(scores, mask, tiles, scale, peak, Exp2, [scores](int t, int j, V first, V second) {
    Simd::Store(scores + t * kTileKeys + j * kLanes, first);
    Simd::Store(scores + t * kTileKeys + (j + 1) * kLanes, second);
  });
}

void Fold(float* acc, float a, const float* add, float b, int n) {
  const V va = Simd::Set(a), vb = Simd::Set(b);
  for (int i = 0; i < n; i += kLanes) {
    Simd::Store(acc + i, Simd::Fma(Simd::Load(acc + i), va, Simd::Mul(Simd::Load(add + i), vb)));
  }
}

void StoreRow(const float* acc, float scale, int n, void* out, bool bf16) {
  for (int i = 0; i < n; i += kLanes) {
    const V x = Simd::Mul(Simd::LoadPart(acc + i, n - i), Simd::Set(scale));
    if (bf16) {
      Simd::StoreBf16(static_cast<uint16_t*>(out) + i, x, n - i);
    } else {
      Simd::StorePart(static_cast<float*>(out) + i, x, n - i);
    }
  }
}

void MaxScore(float* score, const float* block_max, float scale, float lse, int n) {
  const V c = Simd::Set(scale), minus_lse = Simd::Set(-lse);
  for (int i = 0; i < n; i += kLanes) {
    const V x = Simd::Fma(Simd::LoadPart(block_max + i, n - i), c, minus_lse);
    Simd::StorePart(score + i, Simd::Max(Simd::LoadPart(score + i, n - i), x), n - i);
  }
}

// ---- fp32 units

void PackQueryF32(const float* q, int dim, int units, void* out) {
  float* to = static_cast<float*>(out);
  for (int i = 0; i < dim; ++i) to[i] = q[i];
  for (int i = dim; i < units; ++i) to[i] = 0.0f;
}

struct FromF32 {
  static constexpr int kBytes = 4;  // of an element
  static V Load(const void* row, int at, int n) {
    const float* p = static_cast<const float*>(row) + at;
    return n >= kLanes ? Simd::Load(p) : Simd::LoadPart(p, n);
  }
};
struct FromBf16 {
  static constexpr int kBytes = 2;
  static V Load(const void* row, int at, int n) { return Simd::LoadBf16(static_cast<const uint16_t*>(row) + at, n); }
};

inline void Fetch(const void* row, int64_t offset) { __builtin_prefetch(static_cast<const char*>(row) + offset, 0, 2); }

// 64 rows of `dim` elements -> 4 panels [units][16]; Source::Load gives 16 units from the element `at`.
template <class Source, int kElements>
void PackKeys(const void* const* rows, const void* const* next, int dim, int units, void* out) {
  for (int panel = 0; panel < kTileVectors; ++panel) {
    float* to = static_cast<float*>(out) + static_cast<int64_t>(panel) * units * kLanes;
    for (int u = 0; u < units; u += kLanes) {
      V x[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) {
        const int row = panel * kLanes + i;
        x[i] = Source::Load(rows[row], u * kElements, dim - u * kElements);
        Fetch(next[row], u * kElements * Source::kBytes);
      }
      Simd::Transpose(x);
      const int n = units - u < kLanes ? units - u : kLanes;
      if (n == kLanes) {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) Simd::Store(to + (u + i) * kLanes, x[i]);
      } else {
        for (int i = 0; i < n; ++i) Simd::Store(to + (u + i) * kLanes, x[i]);
      }
    }
  }
}

template <class Source>
void PackValuesF32(const void* const* rows, const void* const* next, int dim, void* out) {
  for (int key = 0; key < kTileKeys; ++key) {
    float* to = static_cast<float*>(out) + key * kLanes;
    for (int e = 0; e < dim; e += kLanes, to += kValueStride) {
      Simd::Store(to, Source::Load(rows[key], e, dim - e));
      Fetch(next[key], e * Source::kBytes);
    }
  }
}

struct MultiplyAddF32 {
  static V Broadcast(const void* a) { return Simd::Set(*static_cast<const float*>(a)); }
  static V Apply(V acc, V a, V b) { return Simd::Fma(a, b, acc); }
};

// One register block of the product: kRows rows by kPanels panels.
template <class Op, int kRows, int kPanels>
void MultiplyBlock(const float* a, int64_t a_stride, const float* b, int64_t panel_stride, int units, float* c,
                   int64_t c_stride, bool accumulate) {
  V acc[kRows][kPanels];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) acc[r][p] = accumulate ? Simd::Load(c + r * c_stride + p * kLanes) : Simd::Zero();
  }
  for (int u = 0; u < units; ++u) {
    V column[kPanels];
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) column[p] = Simd::Load(b + p * panel_stride + u * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const V x = Op::Broadcast(a + r * a_stride + u);
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) acc[r][p] = Op::Apply(acc[r][p], x, column[p]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) Simd::Store(c + r * c_stride + p * kLanes, acc[r][p]);
  }
}

template <class Op, int kRows>
void MultiplyRows(const float* a, int64_t a_stride, const float* b, int64_t panel_stride, int panels, int units,
                  float* c, int64_t c_stride, bool accumulate) {
  int p = 0;
  for (; p + Simd::kPanels <= panels; p += Simd::kPanels) {
    MultiplyBlock<Op, kRows, Simd::kPanels>(a, a_stride, b + p * panel_stride, panel_stride, units, c + p * kLanes,
                                            c_stride, accumulate);
  }
  for (; p < panels; ++p) {
    MultiplyBlock<Op, kRows, 1>(a, a_stride, b + p * panel_stride, panel_stride, units, c + p * kLanes, c_stride,
                                accumulate);
  }
}

template <class Op>
void Multiply(const void* a_units, int64_t a_stride, int rows, const void* b_units, int64_t panel_stride, int panels,
              int units, float* c, int64_t c_stride, bool accumulate) {
  const float* a = static_cast<const float*>(a_units);
  const float* b = static_cast<const float*>(b_units);
  auto advance = [&](auto kernel, int n) {
    for (; rows >= n; rows -= n, a += n * a_stride, c += n * c_stride) {
      kernel(a, a_stride, b, panel_stride, panels, units, c, c_stride, accumulate);
    }
  };
  advance(MultiplyRows<Op, Simd::kRows>, Simd::kRows);
  if constexpr (Simd::kRows > 4) advance(MultiplyRows<Op, 4>, 4);
  if constexpr (Simd::kRows > 3) advance(MultiplyRows<Op, 3>, 3);
  if constexpr (Simd::kRows > 2) advance(MultiplyRows<Op, 2>, 2);
  advance(MultiplyRows<Op, 1>, 1);
}

// The table for fp32 units, whatever the pages' dtype.
template <class Source>
constexpr MicroKernels F32Kernels(const char* name) {
  return {.name = name,
          .pairs = false,
          .unit_align = 1,
          .begin = NoSetup,
          .end = NoSetup,
          .pack_query = PackQueryF32,
          .pack_keys = PackKeys<Source, 1>,
          .pack_values = PackValuesF32<Source>,
          .multiply = Multiply<MultiplyAddF32>,
          .max_row = MaxRow,
          .max_row_by_block = MaxRowByBlock,
          .exp_row = ExpRow,
          .fold = Fold,
          .store = StoreRow,
          .max_score = MaxScore};
}

}  // namespace
}  // namespace hysparse::cpu
