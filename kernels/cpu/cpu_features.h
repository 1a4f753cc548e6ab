// Which instruction set the CPU kernels use. Detected once per backend; every op has one implementation per level that
// matters, and all levels can be exercised on one machine: the environment variable HYSPARSE_MAX_ISA (avx2, avx512,
// avx512_bf16 or amx) caps what is detected. Any thread.
#pragma once

#include <vector>

#include "absl/status/statusor.h"

namespace hysparse::cpu {

// Each level includes the ones before it.
enum class CpuIsa {
  kAvx2,        // AVX2, FMA, F16C
  kAvx512,      // + AVX-512 F, BW, DQ, VL
  kAvx512Bf16,  // + AVX512_BF16
  kAmx,         // + AMX-TILE, AMX-BF16, and the kernel's permission to use the tiles
};

constexpr const char* Name(CpuIsa isa) {
  return isa == CpuIsa::kAvx2         ? "AVX2"
         : isa == CpuIsa::kAvx512     ? "AVX-512"
         : isa == CpuIsa::kAvx512Bf16 ? "AVX512-BF16"
                                      : "AMX-BF16";
}

// The best level that processor, kernel and HYSPARSE_MAX_ISA allow. Asks the kernel for the AMX tiles (for the whole
// process). FailedPrecondition without AVX2; InvalidArgument when the variable has another value.
absl::StatusOr<CpuIsa> DetectCpuIsa();

// Every level up to DetectCpuIsa()'s, lowest first; empty without AVX2. For tests.
std::vector<CpuIsa> AvailableIsas();

// Cores this process may run on.
int AvailableCores();

}  // namespace hysparse::cpu
