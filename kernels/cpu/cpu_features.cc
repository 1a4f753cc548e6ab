#include "kernels/cpu/cpu_features.h"

#include <cpuid.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/result.h"

namespace hysparse::cpu {
namespace {

// Linux's arch_prctl: AMX state is large and given on request only (Documentation/arch/x86/xstate.rst).
constexpr int kRequestXcompPermission = 0x1023;
constexpr int kTileData = 18;

struct Cpuid {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Cpuid Query(uint32_t leaf, uint32_t subleaf) {
  Cpuid r;
  __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
  return r;
}

// Register state that the kernel saves: XCR0.
uint64_t EnabledState() {
  uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

bool All(uint64_t value, std::initializer_list<int> bits) {
  return std::all_of(bits.begin(), bits.end(), [&](int bit) { return (value >> bit & 1) != 0; });
}

// The processor's level, or -1 below AVX2.
int ProcessorLevel() {
  const Cpuid basic = Query(1, 0);
  if (!All(basic.ecx, {12, 27, 28, 29})) return -1;  // FMA, OSXSAVE, AVX, F16C
  const uint64_t state = EnabledState();
  const Cpuid extended = Query(7, 0);
  if (!All(state, {1, 2}) || !All(extended.ebx, {5})) return -1;  // SSE and AVX state; AVX2
  if (!All(state, {5, 6, 7}) || !All(extended.ebx, {16, 17, 30, 31})) return static_cast<int>(CpuIsa::kAvx2);
  if (!All(Query(7, 1).eax, {5})) return static_cast<int>(CpuIsa::kAvx512);
  const bool tiles = All(state, {17, 18}) && All(extended.edx, {22, 24});
  if (!tiles || syscall(SYS_arch_prctl, kRequestXcompPermission, kTileData) != 0) {
    return static_cast<int>(CpuIsa::kAvx512Bf16);
  }
  return static_cast<int>(CpuIsa::kAmx);
}

absl::StatusOr<CpuIsa> LevelCap() {
  const char* text = std::getenv("HYSPARSE_MAX_ISA");
  const std::string cap = text == nullptr ? "" : text;
  if (cap.empty() || cap == "amx") return CpuIsa::kAmx;
  if (cap == "avx512_bf16") return CpuIsa::kAvx512Bf16;
  if (cap == "avx512") return CpuIsa::kAvx512;
  if (cap == "avx2") return CpuIsa::kAvx2;
  return absl::InvalidArgumentError(
      absl::StrCat("HYSPARSE_MAX_ISA is \"", cap, "\"; it must be avx2, avx512, avx512_bf16 or amx"));
}

}  // namespace

absl::StatusOr<CpuIsa> DetectCpuIsa() {
  HYSPARSE_ASSIGN_OR_RETURN(const CpuIsa cap, LevelCap());
  static const int level = ProcessorLevel();
  if (level < 0) return absl::FailedPreconditionError("the CPU backend needs a processor with AVX2, FMA and F16C");
  return std::min(static_cast<CpuIsa>(level), cap);
}

std::vector<CpuIsa> AvailableIsas() {
  std::vector<CpuIsa> isas;
  const absl::StatusOr<CpuIsa> best = DetectCpuIsa();
  if (!best.ok()) return isas;
  for (CpuIsa isa : {CpuIsa::kAvx2, CpuIsa::kAvx512, CpuIsa::kAvx512Bf16, CpuIsa::kAmx}) {
    if (isa <= *best) isas.push_back(isa);
  }
  return isas;
}

int AvailableCores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(CPU_COUNT(&set), 1);
  return std::max<int>(std::thread::hardware_concurrency(), 1);
}

}  // namespace hysparse::cpu
