// Coefficients that a fit must find, and those that it cannot tell apart.
#include "engine/schedule/step_clock.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace hysparse {
namespace {

constexpr StepRates kTrue{0.003, 2e-5, 4e-4, 3e-8, true};

StepWork RandomWork(std::mt19937& random) {
  const auto any = [&](double most) { return std::uniform_real_distribution<>(0, most)(random); };
  const double decodes = std::floor(any(65));
  return {any(1) < 0.5 ? 0 : 1 + any(2048), decodes, decodes * any(8192)};
}

TEST(StepClockTest, FindsTheRates) {
  std::mt19937 random(1);
  StepClock clock;
  for (int i = 0; i < 500; ++i) {
    const StepWork work = RandomWork(random);
    clock.Observe(work, kTrue.Seconds(work));
  }
  const StepRates rates = clock.Rates();
  ASSERT_TRUE(rates.known);
  EXPECT_NEAR(rates.base, kTrue.base, 1e-3 * kTrue.base);
  EXPECT_NEAR(rates.per_cost, kTrue.per_cost, 1e-3 * kTrue.per_cost);
  EXPECT_NEAR(rates.per_decode, kTrue.per_decode, 1e-3 * kTrue.per_decode);
  EXPECT_NEAR(rates.per_depth, kTrue.per_depth, 1e-3 * kTrue.per_depth);
}

TEST(StepClockTest, NoiseAveragesOut) {
  std::mt19937 random(2);
  std::normal_distribution<> noise(1, 0.2);
  StepClock clock;
  for (int i = 0; i < 3000; ++i) {
    const StepWork work = RandomWork(random);
    clock.Observe(work, kTrue.Seconds(work) * std::max(0.1, noise(random)));
  }
  const StepRates rates = clock.Rates();
  for (int i = 0; i < 100; ++i) {
    const StepWork work = RandomWork(random);
    if (work.prefill_cost + work.decodes == 0) continue;
    EXPECT_NEAR(rates.Seconds(work), kTrue.Seconds(work), 0.1 * kTrue.Seconds(work));
  }
}

TEST(StepClockTest, FollowsAMachineThatChanges) {
  std::mt19937 random(3);
  StepClock clock;
  for (int i = 0; i < 10000; ++i) {
    const StepWork work = RandomWork(random);
    clock.Observe(work, kTrue.Seconds(work) * (i < 3000 ? 1 : 3));
  }
  const StepWork work{1000, 30, 90000};
  EXPECT_NEAR(clock.Rates().Seconds(work), 3 * kTrue.Seconds(work), 0.03 * kTrue.Seconds(work));
}

TEST(StepClockTest, WhatNoStepTellsApartIsStillPredicted) {
  StepClock clock;
  for (int i = 0; i < 50; ++i) clock.Observe({0, 4, 400}, 0.01);
  EXPECT_FALSE(clock.Rates().known) << "no prefill was seen";
  for (int i = 0; i < 50; ++i) clock.Observe({512, 4, 400}, 0.03);
  const StepRates rates = clock.Rates();
  ASSERT_TRUE(rates.known);
  EXPECT_NEAR(rates.Seconds({0, 4, 400}), 0.01, 1e-5);
  EXPECT_NEAR(rates.Seconds({512, 4, 400}), 0.03, 1e-5);
}

TEST(StepClockTest, AFewShallowStepsSayNothingOfTheDeep) {
  StepClock clock;
  clock.Observe({3, 0, 0}, 0.017);
  for (int depth = 3; depth < 10; ++depth) {
    clock.Observe({0, 1, static_cast<double>(depth)}, 0.020 + 0.001 * depth);
    EXPECT_LT(clock.Rates().Seconds({0, 1, 3000}), 0.1) << depth;
  }
}

TEST(StepClockTest, NoRateIsNegative) {
  StepClock clock;
  // Decodes that seem to make a step shorter.
  clock.Observe({100, 0, 0}, 0.010);
  clock.Observe({100, 8, 0}, 0.008);
  clock.Observe({200, 4, 0}, 0.018);
  const StepRates rates = clock.Rates();
  EXPECT_GE(rates.base, 0);
  EXPECT_GE(rates.per_decode, 0);
  EXPECT_GE(rates.per_depth, 0);
  EXPECT_GT(rates.per_cost, 0);
}

TEST(StepClockTest, NonsenseIsNotLearnt) {
  StepClock clock;
  clock.Observe({0, 0, 0}, 1);
  clock.Observe({100, 1, 0}, 0);
  clock.Observe({100, 1, 0}, std::nan(""));
  EXPECT_FALSE(clock.Rates().known);
}

TEST(LengthRatioTest, StartsAtOneAndLearns) {
  LengthRatio ratio;
  EXPECT_EQ(ratio.value(), 1);
  ratio.Observe(0, 0);
  EXPECT_EQ(ratio.value(), 1);
  for (int i = 0; i < 1000; ++i) ratio.Observe(i % 2 == 0 ? 100 : 300, 1000);
  EXPECT_NEAR(ratio.value(), 0.2, 0.01);
}

}  // namespace
}  // namespace hysparse
