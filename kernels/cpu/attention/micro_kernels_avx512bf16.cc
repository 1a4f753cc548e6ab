// The attention micro-kernels for AVX512_BF16: products of bf16 pairs, accumulated in fp32.
#include "kernels/cpu/attention/bf16_kernels.h"

namespace hysparse::cpu {

const MicroKernels& Avx512Bf16Kernels() {
  static constexpr MicroKernels kTable = Bf16Kernels("AVX512-BF16");
  return kTable;
}

}  // namespace hysparse::cpu
