#include "kernels/cpu/cpu_features.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

namespace hysparse::cpu {
namespace {

class Cap {
 public:
  explicit Cap(const char* value) {
    if (const char* old = std::getenv("HYSPARSE_MAX_ISA")) old_ = old;
    value == nullptr ? unsetenv("HYSPARSE_MAX_ISA") : setenv("HYSPARSE_MAX_ISA", value, 1);
  }
  ~Cap() { old_.empty() ? unsetenv("HYSPARSE_MAX_ISA") : setenv("HYSPARSE_MAX_ISA", old_.c_str(), 1); }

 private:
  std::string old_;
};

// The kernel's own reading of cpuid.
std::set<std::string> KernelFlags() {
  std::ifstream file("/proc/cpuinfo");
  std::set<std::string> flags;
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("flags", 0) != 0) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    for (std::string word; words >> word;) flags.insert(word);
    break;
  }
  return flags;
}

TEST(CpuFeatures, AgreesWithTheKernel) {
  const Cap none(nullptr);
  const std::set<std::string> flags = KernelFlags();
  const absl::StatusOr<CpuIsa> isa = DetectCpuIsa();
  ASSERT_EQ(isa.ok(), flags.count("avx2") && flags.count("fma") && flags.count("f16c"));
  if (!isa.ok()) return;
  const bool avx512 = flags.count("avx512f") && flags.count("avx512bw") && flags.count("avx512vl");
  EXPECT_EQ(*isa >= CpuIsa::kAvx512, avx512);
  EXPECT_EQ(*isa >= CpuIsa::kAvx512Bf16, avx512 && flags.count("avx512_bf16"));
  if (*isa == CpuIsa::kAmx) {
    EXPECT_TRUE(flags.count("amx_bf16"));
  }
}

TEST(CpuFeatures, TheVariableCaps) {
  std::vector<CpuIsa> all;
  {
    const Cap none(nullptr);
    all = AvailableIsas();
  }
  if (all.empty()) GTEST_SKIP() << "no AVX2";
  const std::pair<const char*, CpuIsa> caps[] = {{"avx2", CpuIsa::kAvx2},
                                                 {"avx512", CpuIsa::kAvx512},
                                                 {"avx512_bf16", CpuIsa::kAvx512Bf16},
                                                 {"amx", CpuIsa::kAmx}};
  for (const auto& [name, level] : caps) {
    const Cap cap(name);
    const absl::StatusOr<CpuIsa> isa = DetectCpuIsa();
    ASSERT_TRUE(isa.ok()) << isa.status();
    EXPECT_EQ(*isa, std::min(level, all.back())) << name;
  }
}

TEST(CpuFeatures, AnUnknownCapIsAnError) {
  const Cap cap("sse9");
  const absl::StatusOr<CpuIsa> isa = DetectCpuIsa();
  ASSERT_FALSE(isa.ok());
  EXPECT_EQ(isa.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(isa.status().message().find("sse9"), std::string::npos);
}

TEST(CpuFeatures, ThereIsACore) { EXPECT_GE(AvailableCores(), 1); }

}  // namespace
}  // namespace hysparse::cpu
