#include "engine/run/rank_thread.h"

#include <atomic>
#include <condition_variable>
#include <mutex>

#include "gtest/gtest.h"

namespace hysparse {
namespace {

// What a test and its runner share: which steps began, and how many may end.
struct Gate {
  std::mutex mutex;
  std::condition_variable changed;
  int allowed = 0;
  std::vector<uint64_t> begun;
  std::thread::id thread;
  bool gone = false;

  void Allow(int steps) {
    std::lock_guard lock(mutex);
    allowed += steps;
    changed.notify_all();
  }
  void WaitUntilBegun(size_t steps) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return begun.size() >= steps; });
  }
};

// Gives the step's number as its token; every third step fails.
class GatedRunner : public StepRunner {
 public:
  explicit GatedRunner(Gate& gate) : gate_(gate) {}
  ~GatedRunner() override { gate_.gone = true; }
  absl::StatusOr<StepResult> Run(StepPlan& plan) override {
    std::unique_lock lock(gate_.mutex);
    gate_.thread = std::this_thread::get_id();
    gate_.begun.push_back(plan.step);
    gate_.changed.notify_all();
    gate_.changed.wait(lock, [&] { return gate_.allowed > 0; });
    --gate_.allowed;
    if (plan.step % 3 == 2) return absl::InternalError("this step fails");
    StepResult result;
    result.token = {static_cast<int32_t>(plan.step)};
    return result;
  }

 private:
  Gate& gate_;
};

StepPlan Step(uint64_t number) {
  StepPlan plan;
  plan.step = number;
  return plan;
}

TEST(RankThread, RunsStepsInOrderOnItsOwnThread) {
  Gate gate;
  RankThread rank(std::make_unique<GatedRunner>(gate));
  gate.Allow(200);
  rank.Launch(Step(0));
  for (uint64_t step = 0; step < 200; ++step) {
    if (step + 1 < 200) rank.Launch(Step(step + 1));  // two are under way
    const absl::StatusOr<StepResult> result = rank.Wait();
    if (step % 3 == 2) {
      EXPECT_EQ(result.status().message(), "this step fails");
    } else {
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_EQ(result->token, std::vector<int32_t>{static_cast<int32_t>(step)});
    }
  }
  ASSERT_EQ(gate.begun.size(), 200u);
  EXPECT_TRUE(std::is_sorted(gate.begun.begin(), gate.begun.end()));
  EXPECT_NE(gate.thread, std::this_thread::get_id());
}

TEST(RankThread, LaunchReturnsWhileAStepRuns) {
  Gate gate;
  RankThread rank(std::make_unique<GatedRunner>(gate));
  rank.Launch(Step(0));
  gate.WaitUntilBegun(1);
  rank.Launch(Step(1));  // while step 0 stands at the gate
  {
    std::lock_guard lock(gate.mutex);
    EXPECT_EQ(gate.begun.size(), 1u) << "one step at a time";
  }
  gate.Allow(2);
  EXPECT_TRUE(rank.Wait().ok());
  EXPECT_TRUE(rank.Wait().ok());
}

TEST(RankThread, EndsWithAStepRunningAndOneLaunched) {
  Gate gate;
  {
    RankThread rank(std::make_unique<GatedRunner>(gate));
    rank.Launch(Step(0));
    gate.WaitUntilBegun(1);
    rank.Launch(Step(1));
    gate.Allow(5);
  }
  EXPECT_TRUE(gate.gone);
  EXPECT_GE(gate.begun.size(), 1u);
}

TEST(RankThread, EndsIdleAndWithResultsLeft) {
  Gate gate;
  { RankThread idle(std::make_unique<GatedRunner>(gate)); }
  EXPECT_TRUE(gate.gone);
  gate.Allow(1);
  RankThread rank(std::make_unique<GatedRunner>(gate));
  rank.Launch(Step(0));
}

}  // namespace
}  // namespace hysparse
