// The attention micro-kernels for any processor: the readable reference of the others, used by tests. bf16 pages are
// widened to fp32.
#include "kernels/cpu/attention/simd_portable.h"
#include "kernels/cpu/attention/vector_kernels.h"

namespace hysparse::cpu {

const MicroKernels& PortableKernels(bool bf16_pages) {
  static constexpr MicroKernels kF32 = F32Kernels<FromF32>("portable, f32 pages");
  static constexpr MicroKernels kBf16 = F32Kernels<FromBf16>("portable, bf16 pages");
  return bf16_pages ? kBf16 : kF32;
}

}  // namespace hysparse::cpu
