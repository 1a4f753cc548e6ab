// 16 floats in two AVX2 registers. Included only by sources built for AVX2; everything has internal linkage.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace hysparse::cpu {
namespace {

struct Simd {
  struct V {
    __m256 lo, hi;
  };
  static constexpr int kRows = 6, kPanels = 1;  // register block of `multiply`

  static V Zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static V Set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static V Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static V LoadPart(const float* p, int n) {
    if (n >= 16) return Load(p);
    const V bits = Lanes((1u << n) - 1);
    return {_mm256_maskload_ps(p, _mm256_castps_si256(bits.lo)),
            _mm256_maskload_ps(p + 8, _mm256_castps_si256(bits.hi))};
  }
  static V LoadBf16(const uint16_t* p, int n) {
    alignas(32) uint16_t part[16];
    if (n < 16) {
      for (int i = 0; i < 16; ++i) part[i] = i < n ? p[i] : 0;
      p = part;
    }
    return {Widen(p), Widen(p + 8)};
  }
  static void Store(float* p, V x) {
    _mm256_storeu_ps(p, x.lo);
    _mm256_storeu_ps(p + 8, x.hi);
  }
  static void StorePart(float* p, V x, int n) {
    if (n >= 16) return Store(p, x);
    const V bits = Lanes((1u << n) - 1);
    _mm256_maskstore_ps(p, _mm256_castps_si256(bits.lo), x.lo);
    _mm256_maskstore_ps(p + 8, _mm256_castps_si256(bits.hi), x.hi);
  }
  static void StoreBf16(uint16_t* p, V x, int n) {
    // packus works within 128-bit halves; the permutation puts the quarters back in order.
    const __m256i both =
        _mm256_permute4x64_epi64(_mm256_packus_epi32(RoundBf16(x.lo), RoundBf16(x.hi)), _MM_SHUFFLE(3, 1, 2, 0));
    if (n >= 16) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), both);
      return;
    }
    alignas(32) uint16_t part[16];
    _mm256_store_si256(reinterpret_cast<__m256i*>(part), both);
    for (int i = 0; i < n; ++i) p[i] = part[i];
  }
  static V Add(V a, V b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
  static V Sub(V a, V b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
  static V Mul(V a, V b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
  static V Fma(V a, V b, V c) { return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)}; }
  static V Max(V a, V b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
  static V Round(V x) {
    constexpr int kMode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(x.lo, kMode), _mm256_round_ps(x.hi, kMode)};
  }
  // x * 2^n, n integral in [-126, 1]
  static V Scale(V x, V n) { return {_mm256_mul_ps(x.lo, Power(n.lo)), _mm256_mul_ps(x.hi, Power(n.hi))}; }
  // Lanes without their bit become `other`.
  static V Select(uint16_t mask, V x, V other) {
    const V bits = Lanes(mask);
    return {_mm256_blendv_ps(other.lo, x.lo, bits.lo), _mm256_blendv_ps(other.hi, x.hi, bits.hi)};
  }
  static float ReduceMax(V x) {
    const __m256 a = _mm256_max_ps(x.lo, x.hi);
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
  }
  static float ReduceAdd(V x) {
    const __m256 a = _mm256_add_ps(x.lo, x.hi);
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
  }

  // 16 vectors as the rows of a matrix -> its columns, by 8x8 quarters.
  static void Transpose(V (&x)[16]) {
    Transpose8(&x[0], &x[0], false, false);
    Transpose8(&x[8], &x[8], true, true);
    V swapped[8];
    for (int i = 0; i < 8; ++i) swapped[i] = {x[i].hi, x[i + 8].lo};
    Transpose8(swapped, swapped, false, false);
    Transpose8(swapped, swapped, true, true);
    for (int i = 0; i < 8; ++i) {
      x[i].hi = swapped[i].hi;
      x[i + 8].lo = swapped[i].lo;
    }
  }

 private:
  static __m256 Widen(const uint16_t* p) {
    const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
  }
  static __m256i RoundBf16(__m256 x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    const __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000));
    const __m256 safe = _mm256_blendv_ps(_mm256_castsi256_ps(rounded), nan, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return _mm256_srli_epi32(_mm256_castps_si256(safe), 16);
  }
  static __m256 Power(__m256 n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
  }
  // All ones in the lanes whose bit is set.
  static V Lanes(uint32_t mask) {
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i lo = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(mask)), bit);
    const __m256i hi = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(mask >> 8)), bit);
    return {_mm256_castsi256_ps(_mm256_cmpeq_epi32(lo, bit)), _mm256_castsi256_ps(_mm256_cmpeq_epi32(hi, bit))};
  }
  // The 8x8 matrix in the chosen halves of 8 vectors.
  static void Transpose8(const V* in, V* out, bool in_hi, bool out_hi) {
    __m256 a[8], b[8];
    for (int i = 0; i < 8; ++i) a[i] = in_hi ? in[i].hi : in[i].lo;
    for (int i = 0; i < 8; i += 2) {
      b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
      b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
      a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
      a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xee);
      a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
      a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xee);
    }
    for (int i = 0; i < 4; ++i) {
      const __m256 first = _mm256_permute2f128_ps(a[i], a[i + 4], 0x20);
      const __m256 second = _mm256_permute2f128_ps(a[i], a[i + 4], 0x31);
      (out_hi ? out[i].hi : out[i].lo) = first;
      (out_hi ? out[i + 4].hi : out[i + 4].lo) = second;
    }
  }
};

}  // namespace
}  // namespace hysparse::cpu
