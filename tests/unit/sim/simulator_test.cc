// Whole simulations on a small model, the cache's law checked after each step.
#include "engine/sim/simulator.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/unit/sim/sim_spec.h"

namespace hysparse {
namespace {

class SimulatorTest : public testing::Test {
 protected:
  SimulatorTest() : layout_(MakeKvLayout(spec_, DType::kBF16)), work_(spec_, layout_, 1) {
    options_.blocks.layout = layout_;
    options_.blocks.device = *MakeArenaLayout(layout_, 2 << 20);
    options_.blocks.rebuild_tokens = RebuildTokens(spec_);
    options_.schedule.max_num_seqs = 16;
    options_.schedule.max_num_batched_tokens = 256;
    options_.vocab = spec_.vocab;
    options_.check_invariants = true;
  }
  SimulationReport Run(const std::string& text, Load load = {}) {
    const auto workload = ParseWorkload("test", text);
    EXPECT_TRUE(workload.ok()) << workload.status();
    return Simulate(options_, work_, *workload, load);
  }

  const ModelSpec spec_ = SimSpec();
  const KvLayout layout_;
  const WorkModel work_;
  SimulatorOptions options_;
};

constexpr char kMixed[] =
    "duration: 20\nrate: 5\nclasses:\n"
    "  - {name: short, share: 3, prompt: [50, 300], output: [1, 40], turns: [1, 4], think: 1, prefix: 100}\n"
    "  - {name: long, prompt: 3000, output: 20}\n";

TEST_F(SimulatorTest, TheSameSeedGivesTheSameFigures) {
  const std::string one = ReportAsJson(Run(kMixed, {.rate = 5})).dump();
  EXPECT_EQ(one, ReportAsJson(Run(kMixed, {.rate = 5})).dump());
  options_.seed = 2;
  EXPECT_NE(one, ReportAsJson(Run(kMixed, {.rate = 5})).dump());
}

TEST_F(SimulatorTest, AClassAloneMeetsTheSameSessions) {
  const SimulationReport all = Run(kMixed, {.rate = 5}), alone = Run(kMixed, {.rate = 5, .only_class = 1});
  EXPECT_EQ(alone.classes[0].arrived, 0);
  EXPECT_EQ(alone.classes[1].arrived, all.classes[1].arrived);  // one turn each
  EXPECT_GT(alone.classes[1].arrived, 5);
  EXPECT_GT(all.prefix.hit_tokens, 0);
}

TEST_F(SimulatorTest, OneRequestTakesTheStepsOfItsPrompt) {
  options_.device = {};
  options_.device.step_overhead = 1;  // all else is far below
  const SimulationReport report =
      Run("duration: 100\nclasses: [{name: a, prompt: 1024, output: 5}]\narrivals: [{at: 10, class: a}]\n");
  ASSERT_EQ(report.classes[0].finished, 1);
  EXPECT_NEAR(report.classes[0].ttft[0], 4, 0.01);  // 4 chunks of 256
  EXPECT_NEAR(report.classes[0].tpot[0], 1, 0.01);
  EXPECT_EQ(report.output_tokens, 5);
  EXPECT_EQ(report.prompt_tokens, 1024);
  EXPECT_EQ(report.most_running, 1);
}

TEST_F(SimulatorTest, RefusesWhatNeverFitsAndWhatTheQueueLacksRoomFor) {
  options_.max_waiting = 4;
  const SimulationReport report =
      Run("duration: 1\nclasses: [{name: huge, prompt: 1000000}, {name: a, prompt: 100}]\n"
          "arrivals: [{at: 0, class: huge, count: 2}, {at: 0, class: a, count: 10}]\n");
  EXPECT_EQ(report.classes[0].refused.at("never_fits"), 2);
  EXPECT_EQ(report.classes[1].refused.at("queue_full"), 6);
}

TEST_F(SimulatorTest, SpillsUnderPressureAndFinishesAll) {
  options_.blocks.host = *MakeArenaLayout(layout_, 8 << 20);
  options_.schedule.output_reserve = 0;
  const SimulationReport report = Run(
      "duration: 1000\nclasses: [{name: a, prompt: 1500, output: 1500}]\narrivals: [{at: 0, class: a, count: 30}]\n");
  EXPECT_EQ(report.classes[0].finished, 30);
  EXPECT_GT(report.scheduler.spills, 0);
  EXPECT_EQ(report.scheduler.returns, report.scheduler.spills);
  EXPECT_GT(report.memory_refusals, 0);
  EXPECT_GT(report.usable(), 0.9);  // of 2 MB: a page of 64 tokens is 5 KB
}

TEST_F(SimulatorTest, ServesWhatItMeasuresAndNoMore) {
  const Workload workload = *ParseWorkload("test", kMixed);
  options_.check_invariants = false;
  options_.device.step_overhead = 0.05;
  const double capacity = MeasureCapacity(options_, work_, workload);
  ASSERT_GT(capacity, 0);
  Workload hour = workload;
  hour.duration = 2000;
  const SimulationReport below = Simulate(options_, work_, hour, {.rate = capacity * 0.7});
  const SimulationReport above = Simulate(options_, work_, hour, {.rate = capacity * 1.5});
  EXPECT_LT(below.series.back().waiting, 10);
  EXPECT_GT(above.series.back().waiting, 100);
}

}  // namespace
}  // namespace hysparse
