// Storing up to 16 finished outputs of a row, for the AVX-512 and AMX micro-kernels. Included by their sources only.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/gemm_kernels.h"

namespace hysparse::cpu {
namespace {

// Rounds to nearest even; NaN stays NaN. (VCVTNEPS2BF16 would flush denormals.)
inline __m256i RoundToBf16(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  const __m512i kept = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(kept, 16));
}

// Columns [col, col + 16) of the task's row `row`; those beyond task.cols are dropped.
inline void Store16(const GemmTask& task, int row, int col, __m512 value) {
  const int valid = task.cols - col;
  if (valid <= 0) return;
  const __mmask16 mask = valid >= 16 ? 0xffff : static_cast<__mmask16>((1u << valid) - 1);
  if (task.bias != nullptr) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, task.bias + col));
  const int64_t at = row * task.out_stride + col;
  if (task.out_bf16) {
    _mm256_mask_storeu_epi16(static_cast<uint16_t*>(task.out) + at, mask, RoundToBf16(value));
  } else {
    _mm512_mask_storeu_ps(static_cast<float*>(task.out) + at, mask, value);
  }
}

}  // namespace
}  // namespace hysparse::cpu
