// What the CPU kernel tests share: seeded values, and the instruction sets of this machine as test parameters.
#pragma once

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/cpu/cpu_features.h"
#include "kernels/dtype.h"

namespace hysparse::cpu {

inline std::vector<float> Random(size_t n, uint32_t seed, float scale = 1.0f) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(n);
  for (float& value : values) value = normal(rng);
  return values;
}

inline std::string IsaCaseName(const testing::TestParamInfo<CpuIsa>& info) {
  constexpr const char* kNames[] = {"Avx2", "Avx512", "Avx512Bf16", "Amx"};
  return kNames[static_cast<int>(info.param)];
}

using IsaAndType = std::tuple<CpuIsa, DType>;

inline std::string IsaAndTypeName(const testing::TestParamInfo<IsaAndType>& info) {
  const char* type = std::get<1>(info.param) == DType::kF32 ? "F32" : "Bf16";
  return IsaCaseName({std::get<0>(info.param), info.index}) + type;
}

// Every level up to this machine's; F32 and BF16 for each.
inline auto EachIsa() { return testing::ValuesIn(AvailableIsas()); }
inline auto EachIsaAndType() { return testing::Combine(EachIsa(), testing::Values(DType::kF32, DType::kBF16)); }

}  // namespace hysparse::cpu
