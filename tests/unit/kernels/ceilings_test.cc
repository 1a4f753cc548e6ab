#include "kernels/cpu/ceilings.h"

#include <gtest/gtest.h>

#include "kernels/cpu/cpu_features.h"

namespace hysparse::cpu {
namespace {

// The figures themselves depend on the machine: here only their order of magnitude.
TEST(Ceilings, GemmRateIsPlausible) {
  ThreadPool pool(2);
  const absl::StatusOr<double> rate = MeasureGemmRate(pool, DType::kF32, 64, 128, 64);
  ASSERT_TRUE(rate.ok()) << rate.status();
  EXPECT_GT(*rate, 1e7);
  EXPECT_LT(*rate, 1e15);
}

TEST(Ceilings, Bf16NeedsAvx512) {
  ThreadPool pool(1);
  const absl::StatusOr<double> rate = MeasureGemmRate(pool, DType::kBF16, 16, 64, 64);
  const absl::StatusOr<CpuIsa> isa = DetectCpuIsa();
  ASSERT_TRUE(isa.ok());
  EXPECT_EQ(rate.ok(), *isa >= CpuIsa::kAvx512) << rate.status();
}

TEST(Ceilings, BadShapesAreRefused) {
  ThreadPool pool(1);
  EXPECT_EQ(MeasureGemmRate(pool, DType::kF32, 0, 1, 1).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MeasureGemmRate(pool, DType::kF16, 1, 1, 1).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace hysparse::cpu
