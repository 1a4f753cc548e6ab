// The micro-kernels on bf16 pairs, for processors with AVX512_BF16; everything has internal linkage.
#pragma once

#include <cstdint>

#include "kernels/cpu/attention/micro_kernels.h"
#include "kernels/cpu/attention/simd_avx512.h"
#include "kernels/cpu/attention/vector_kernels.h"

namespace hysparse::cpu {
namespace {

inline __mmask32 FirstOf32(int n) { return n >= 32 ? ~__mmask32{0} : n <= 0 ? 0 : (__mmask32{1} << n) - 1; }

inline __m512i ToBf16(__m512 high, __m512 low) {
  const __m512bh pair = _mm512_cvtne2ps_pbh(high, low);
  return reinterpret_cast<const __m512i&>(pair);
}

void PackQueryBf16(const float* q, int dim, int units, void* out) {
  uint16_t* to = static_cast<uint16_t*>(out);
  for (int i = 0; i < 2 * units; i += 32) {
    const int n = dim - i;
    const __m512 low = _mm512_maskz_loadu_ps(static_cast<__mmask16>(FirstOf32(n < 16 ? n : 16)), q + i);
    const __m512 high = _mm512_maskz_loadu_ps(static_cast<__mmask16>(FirstOf32(n < 32 ? n - 16 : 16)), q + i + 16);
    _mm512_storeu_si512(to + i, ToBf16(high, low));
  }
}

struct FromBf16Pairs {
  static constexpr int kBytes = 2;
  static V Load(const void* row, int at, int n) {
    const uint16_t* p = static_cast<const uint16_t*>(row) + at;
    return _mm512_castsi512_ps(n >= 32 ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi16(FirstOf32(n), p));
  }
};

// Interleaves the rows of keys 2k and 2k + 1, so that a unit holds both keys' element e.
void PackValuesBf16(const void* const* rows, const void* const* next, int dim, void* out) {
  alignas(64) static constexpr uint16_t kFirst[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                                      8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
  const __m512i first = _mm512_load_si512(kFirst);
  const __m512i second = _mm512_add_epi16(first, _mm512_set1_epi16(16));
  for (int pair = 0; pair < kTileKeys / 2; ++pair) {
    const uint16_t* even = static_cast<const uint16_t*>(rows[2 * pair]);
    const uint16_t* odd = static_cast<const uint16_t*>(rows[2 * pair + 1]);
    uint32_t* to = static_cast<uint32_t*>(out) + pair * kLanes;
    for (int e = 0; e < dim; e += 32, to += 2 * kValueStride) {
      const __mmask32 bits = FirstOf32(dim - e);
      Fetch(next[2 * pair], e * 2);
      Fetch(next[2 * pair + 1], e * 2);
      const __m512i a = _mm512_maskz_loadu_epi16(bits, even + e);
      const __m512i b = _mm512_maskz_loadu_epi16(bits, odd + e);
      _mm512_storeu_si512(to, _mm512_permutex2var_epi16(a, first, b));
      if (dim - e > kLanes) _mm512_storeu_si512(to + kValueStride, _mm512_permutex2var_epi16(a, second, b));
    }
  }
}

// 2^x for what is rounded to bf16 afterwards: relative error 4e-6. Below 2^-126 it stays there.
inline V Exp2Short(V x) {
  x = _mm512_max_ps(x, _mm512_set1_ps(-126.0f));
  const V f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // x - floor(x)
  V y = _mm512_fmadd_ps(_mm512_set1_ps(0.013534168f), f, _mm512_set1_ps(0.05201146f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0.24144275f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0.69300383f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.0000026f));
  return _mm512_scalef_ps(y, x);  // y * 2^floor(x)
}

// In place: the bf16 row is written behind the point up to which the fp32 row has been read.
float ExpRowBf16(float* scores, const KeyMask& mask, uint32_t tiles, float scale, float peak) {
  uint16_t* out = reinterpret_cast<uint16_t*>(scores);
  return ExpRowWith(scores, mask, tiles, scale, peak, Exp2Short, [out](int t, int j, V first, V second) {
    _mm512_storeu_si512(out + t * kTileKeys + j * kLanes, ToBf16(second, first));
  });
}

struct MultiplyAddBf16 {
  static V Broadcast(const void* a) { return _mm512_castsi512_ps(_mm512_set1_epi32(*static_cast<const int32_t*>(a))); }
  static V Apply(V acc, V a, V b) {
    return _mm512_dpbf16_ps(acc, reinterpret_cast<const __m512bh&>(a), reinterpret_cast<const __m512bh&>(b));
  }
};

constexpr MicroKernels Bf16Kernels(const char* name) {
  MicroKernels table = F32Kernels<FromBf16>(name);
  table.pairs = true;
  table.unit_align = 16;
  table.pack_query = PackQueryBf16;
  table.pack_keys = PackKeys<FromBf16Pairs, 2>;
  table.pack_values = PackValuesBf16;
  table.multiply = Multiply<MultiplyAddBf16>;
  table.exp_row = ExpRowBf16;
  return table;
}

}  // namespace
}  // namespace hysparse::cpu
