// Whole simulations on a small model, the cache's law checked after each step.
#include "engine/sim/simulator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

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
  const auto& of = report.classes[0];
  EXPECT_EQ(std::accumulate(of.preempted.begin(), of.preempted.end(), 0.0), report.scheduler.preemptions);
  EXPECT_GT(Percentile(of.stall, 1), 10 * Percentile(of.tpot, 0.5)) << "somebody waited on the host";
}

TEST(Usable, CountsWhatTheWorseClassCouldHave) {
  BlockManagerOptions options;
  options.layout.global = {.layers = 1, .page_tokens = 4, .window = 0, .token_bytes = 25};
  options.layout.window = {.layers = 1, .page_tokens = 4, .window = 4, .token_bytes = 90};
  options.device = {.slab_bytes = 800, .slabs = 4, .global = {8, 100, 100}, .window = {2, 400, 360}};
  BlockManager blocks(options);
  EXPECT_DOUBLE_EQ(UsableShare(blocks), 8 * 360 / 3200.0);
  const int32_t token = 1;
  PageNeed lacked;
  const auto kv = blocks.Admit({.tokens = {&token, 1}, .hashes = {}, .salt = {}, .promise = 1}, &lacked);
  ASSERT_NE(kv, nullptr);
  // A page of each is promised: of four slabs two are left, besides 7 global pages or 1 of the window.
  EXPECT_DOUBLE_EQ(UsableShare(blocks), (100 + 360 + 5 * 360) / 3200.0);
}

// All of the arena for the one class, then for the other, and back, each time full of the cached pages of the one
// before: what UsableShare promises is there to be had.
TEST(Usable, TheArenaFollowsTheTide) {
  ModelSpec spec = SimSpec();
  for (int i = 0; i < 7; ++i) spec.layers.push_back(spec.layers.back());  // a window page is 8 global ones
  const KvLayout layout = MakeKvLayout(spec, DType::kBF16);
  SimulatorOptions options;
  options.blocks.layout = layout;
  options.blocks.device = *MakeArenaLayout(layout, 64 << 20);
  options.blocks.rebuild_tokens = RebuildTokens(spec);
  options.schedule.max_num_seqs = 1024;
  options.schedule.max_num_batched_tokens = 1 << 16;
  options.vocab = spec.vocab;
  options.device.step_overhead = 0.1;  // all else is far below
  options.check_invariants = true;
  const auto workload = ParseWorkload("tide",
                                      "duration: 180\nclasses: [{name: long, prompt: 10000, output: 64}, "
                                      "{name: short, prompt: 128, output: 64}]\narrivals:\n"
                                      "  - {at: 0, class: long, count: 100}\n  - {at: 60, class: short, count: 900}\n"
                                      "  - {at: 120, class: long, count: 100}\n");
  const SimulationReport report = Simulate(options, WorkModel(spec, layout, 1), *workload, {});
  EXPECT_GE(report.least_usable, 0.97);
  EXPECT_GT(report.mean_usable, report.least_usable);
  int64_t most[3] = {0, 0, 0};
  for (const SeriesPoint& point : report.series) {
    int64_t& of_tide = most[static_cast<int>(point.at / 60)];
    of_tide = std::max(of_tide, point.referenced_bytes);
  }
  for (const int64_t bytes : most)
    EXPECT_GE(static_cast<double>(bytes), 0.97 * static_cast<double>(report.arena_bytes));
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
