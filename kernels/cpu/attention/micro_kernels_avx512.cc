// The attention micro-kernels for AVX-512. bf16 pages are widened to fp32.
#include "kernels/cpu/attention/simd_avx512.h"
#include "kernels/cpu/attention/vector_kernels.h"

namespace hysparse::cpu {

const MicroKernels& Avx512Kernels(bool bf16_pages) {
  static constexpr MicroKernels kF32 = F32Kernels<FromF32>("AVX-512, f32 pages");
  static constexpr MicroKernels kBf16 = F32Kernels<FromBf16>("AVX-512, bf16 pages");
  return bf16_pages ? kBf16 : kF32;
}

}  // namespace hysparse::cpu
