// Vectors of 16 floats for per-ISA sources; the same names over 8 floats are in vec_avx2.h. Partial forms take the
// first n <= kLanes elements; the other lanes read as zero.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace hysparse::cpu {
namespace {

using Vec = __m512;
using Doubles = __m512d;
constexpr int kLanes = 16;
constexpr int kDoubleLanes = 8;

inline __mmask16 First(int n) { return static_cast<__mmask16>((1u << n) - 1); }

inline Vec Set(float x) { return _mm512_set1_ps(x); }
inline Vec Load(const float* p, int n) { return _mm512_maskz_loadu_ps(First(n), p); }
inline void Store(float* p, int n, Vec x) { _mm512_mask_storeu_ps(p, First(n), x); }
inline Vec Add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
inline Vec Sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
inline Vec Mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
inline Vec Div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
inline Vec Fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
// b where either is NaN.
inline Vec Max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
inline Vec Min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
inline Vec Round(Vec x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Vec FillAfter(Vec x, int n, float fill) { return _mm512_mask_blend_ps(First(n), Set(fill), x); }
inline float Sum(Vec x) { return _mm512_reduce_add_ps(x); }
inline float Largest(Vec x) { return _mm512_reduce_max_ps(x); }
// x * 2^n for whole n.
inline Vec Scale(Vec x, Vec n) { return _mm512_scalef_ps(x, n); }

inline Vec LoadBf16(const uint16_t* p, int n) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(First(n), p)), 16));
}
inline Vec LoadF16(const uint16_t* p, int n) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(First(n), p)); }

// To nearest even; NaN stays NaN.
inline void StoreBf16(uint16_t* p, int n, Vec x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  const __m512i kept = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
  _mm256_mask_storeu_epi16(p, First(n), _mm512_cvtepi32_epi16(_mm512_srli_epi32(kept, 16)));
}

inline Doubles SetD(double x) { return _mm512_set1_pd(x); }
inline Doubles LoadAsDoubles(const float* p, int n) {
  return _mm512_cvtps_pd(_mm512_castps512_ps256(_mm512_maskz_loadu_ps(First(n), p)));
}
inline void StoreAsFloats(float* p, int n, Doubles x) {
  _mm512_mask_storeu_ps(p, First(n), _mm512_castps256_ps512(_mm512_cvtpd_ps(x)));
}
inline Doubles MulD(Doubles a, Doubles b) { return _mm512_mul_pd(a, b); }
inline Doubles FmaD(Doubles a, Doubles b, Doubles c) { return _mm512_fmadd_pd(a, b, c); }
inline Doubles RoundD(Doubles x) { return _mm512_roundscale_pd(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Doubles FloorD(Doubles x) { return _mm512_roundscale_pd(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
// a where x != 0, else b.
inline Doubles ChooseD(Doubles x, Doubles a, Doubles b) {
  return _mm512_mask_blend_pd(_mm512_cmp_pd_mask(x, _mm512_setzero_pd(), _CMP_NEQ_OQ), b, a);
}

}  // namespace
}  // namespace hysparse::cpu
