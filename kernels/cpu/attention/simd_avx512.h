// 16 floats in one AVX-512 register. Included only by sources built for AVX-512; everything has internal linkage.
#pragma once

// GCC 12 takes the deliberately undefined sources in its own AVX-512 intrinsics for mistakes (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include <cstdint>

namespace hysparse::cpu {
namespace {

struct Simd {
  using V = __m512;
  static constexpr int kRows = 6, kPanels = 4;  // register block of `multiply`

  static V Zero() { return _mm512_setzero_ps(); }
  static V Set(float x) { return _mm512_set1_ps(x); }
  static V Load(const float* p) { return _mm512_loadu_ps(p); }
  static V LoadPart(const float* p, int n) { return _mm512_maskz_loadu_ps(Bits(n), p); }
  static V LoadBf16(const uint16_t* p, int n) {
    const __m256i x =
        n >= 16 ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)) : _mm256_maskz_loadu_epi16(Bits(n), p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
  }
  static void Store(float* p, V x) { _mm512_storeu_ps(p, x); }
  static void StorePart(float* p, V x, int n) { _mm512_mask_storeu_ps(p, Bits(n), x); }
  static void StoreBf16(uint16_t* p, V x, int n) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    rounded = _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), _mm512_set1_epi32(0x7fc00000));
    _mm256_mask_storeu_epi16(p, Bits(n), _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
  }
  static V Add(V a, V b) { return _mm512_add_ps(a, b); }
  static V Sub(V a, V b) { return _mm512_sub_ps(a, b); }
  static V Mul(V a, V b) { return _mm512_mul_ps(a, b); }
  static V Fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  static V Max(V a, V b) { return _mm512_max_ps(a, b); }
  static V Round(V x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  // x * 2^n, n integral in [-126, 1]
  static V Scale(V x, V n) { return _mm512_scalef_ps(x, n); }
  // Lanes without their bit become `other`.
  static V Select(uint16_t mask, V x, V other) { return _mm512_mask_mov_ps(other, mask, x); }
  static float ReduceMax(V x) { return _mm512_reduce_max_ps(x); }
  static float ReduceAdd(V x) { return _mm512_reduce_add_ps(x); }

  // 16 vectors as the rows of a matrix -> its columns.
  static void Transpose(V (&x)[16]) {
    __m512i a[16], b[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) a[i] = _mm512_castps_si512(x[i]);
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
      b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
      b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
      a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
      a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
      a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
      a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      b[i] = _mm512_shuffle_i32x4(a[i], a[i + 4], 0x88);
      b[i + 4] = _mm512_shuffle_i32x4(a[i], a[i + 4], 0xdd);
      b[i + 8] = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0x88);
      b[i + 12] = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0xdd);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      x[i] = _mm512_castsi512_ps(_mm512_shuffle_i32x4(b[i], b[i + 8], 0x88));
      x[i + 8] = _mm512_castsi512_ps(_mm512_shuffle_i32x4(b[i], b[i + 8], 0xdd));
      x[i + 4] = _mm512_castsi512_ps(_mm512_shuffle_i32x4(b[i + 4], b[i + 12], 0x88));
      x[i + 12] = _mm512_castsi512_ps(_mm512_shuffle_i32x4(b[i + 4], b[i + 12], 0xdd));
    }
  }

 private:
  static __mmask16 Bits(int n) { return n >= 16 ? 0xffff : static_cast<__mmask16>((1u << n) - 1); }
};

}  // namespace
}  // namespace hysparse::cpu
