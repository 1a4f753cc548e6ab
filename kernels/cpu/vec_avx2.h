// Vectors of 8 floats for per-ISA sources: the names of vec_avx512.h over AVX2.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace hysparse::cpu {
namespace {

using Vec = __m256;
using Doubles = __m256d;
constexpr int kLanes = 8;
constexpr int kDoubleLanes = 4;

inline __m256i First(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

inline Vec Set(float x) { return _mm256_set1_ps(x); }
inline Vec Load(const float* p, int n) { return n == kLanes ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, First(n)); }
inline void Store(float* p, int n, Vec x) {
  n == kLanes ? _mm256_storeu_ps(p, x) : _mm256_maskstore_ps(p, First(n), x);
}
inline Vec Add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
inline Vec Sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
inline Vec Mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
inline Vec Div(Vec a, Vec b) { return _mm256_div_ps(a, b); }
inline Vec Fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
// b where either is NaN.
inline Vec Max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
inline Vec Min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
inline Vec Round(Vec x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Vec FillAfter(Vec x, int n, float fill) { return _mm256_blendv_ps(Set(fill), x, _mm256_castsi256_ps(First(n))); }

inline float Sum(Vec x) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
inline float Largest(Vec x) {
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

// x * 2^n for whole n in [-252, 254]: in two steps, so that results near both ends of the range come out right.
inline Vec Scale(Vec x, Vec n) {
  const __m256i all = _mm256_cvtps_epi32(n);
  const __m256i half = _mm256_srai_epi32(all, 1);
  const __m256i rest = _mm256_sub_epi32(all, half);
  const __m256i bias = _mm256_set1_epi32(127);
  const Vec first = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
  const Vec second = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
  return Mul(Mul(x, first), second);
}

inline __m128i Load16(const uint16_t* p, int n) {
  if (n == kLanes) return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  alignas(16) uint16_t part[8] = {};
  for (int i = 0; i < n; ++i) part[i] = p[i];
  return _mm_load_si128(reinterpret_cast<const __m128i*>(part));
}
inline Vec LoadBf16(const uint16_t* p, int n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(Load16(p, n)), 16));
}
inline Vec LoadF16(const uint16_t* p, int n) { return _mm256_cvtph_ps(Load16(p, n)); }

// To nearest even; NaN stays NaN.
inline void StoreBf16(uint16_t* p, int n, Vec x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
  const __m128i narrow = _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
  if (n == kLanes) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow);
    return;
  }
  alignas(16) uint16_t part[8];
  _mm_store_si128(reinterpret_cast<__m128i*>(part), narrow);
  for (int i = 0; i < n; ++i) p[i] = part[i];
}

inline Doubles SetD(double x) { return _mm256_set1_pd(x); }
inline Doubles LoadAsDoubles(const float* p, int n) {
  return _mm256_cvtps_pd(_mm_maskload_ps(p, _mm256_castsi256_si128(First(n))));
}
inline void StoreAsFloats(float* p, int n, Doubles x) {
  _mm_maskstore_ps(p, _mm256_castsi256_si128(First(n)), _mm256_cvtpd_ps(x));
}
inline Doubles MulD(Doubles a, Doubles b) { return _mm256_mul_pd(a, b); }
inline Doubles FmaD(Doubles a, Doubles b, Doubles c) { return _mm256_fmadd_pd(a, b, c); }
inline Doubles RoundD(Doubles x) { return _mm256_round_pd(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Doubles FloorD(Doubles x) { return _mm256_round_pd(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
// a where x != 0, else b.
inline Doubles ChooseD(Doubles x, Doubles a, Doubles b) {
  return _mm256_blendv_pd(b, a, _mm256_cmp_pd(x, _mm256_setzero_pd(), _CMP_NEQ_OQ));
}

}  // namespace
}  // namespace hysparse::cpu
