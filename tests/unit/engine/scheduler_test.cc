// What a step holds: order, budget, overtaking, preemption and plan data, without an engine's threads.
#include "engine/schedule/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

#include "tests/unit/engine/schedule_harness.h"

namespace hysparse {
namespace {

using Chunks = std::vector<FakeModel::Chunk>;

HarnessOptions Options(int32_t max_num_seqs, int32_t budget, int64_t global_pages = 200, int32_t reserve = 512) {
  HarnessOptions options;
  options.engine.arena = TestArena(global_pages, 60);
  options.engine.max_num_seqs = max_num_seqs;
  options.engine.max_num_batched_tokens = budget;
  options.engine.output_reserve = reserve;
  options.engine.prefix_caching = false;
  options.steps_in_flight = 1;
  return options;
}

class SchedulerTest : public testing::Test {
 protected:
  SchedulerTest() { Make(Options(8, 32)); }

  void Make(const HarnessOptions& options) { harness_ = std::make_unique<ScheduleHarness>(options); }
  Sequence& Add(int32_t prompt, int32_t max_tokens, int32_t priority = 0) {
    GenerateRequest request = TestRequest("r", prompt, max_tokens);
    request.priority = priority;
    return *harness_->Add(request).front();
  }
  // One step, planned and done.
  Chunks Step() {
    if (!harness_->Turn()) return {};
    Chunks chunks;
    for (const PlannedChunk& c : plan().chunks) chunks.push_back({c.sequence, c.position, c.tokens.size()});
    return chunks;
  }
  const StepPlan& plan() const { return harness_->plan(); }
  std::vector<int64_t> Queue() {
    std::vector<int64_t> ids;
    for (const Sequence* sequence : harness_->scheduler().Queue(100)) ids.push_back(sequence->id());
    return ids;
  }

  std::unique_ptr<ScheduleHarness> harness_;
};

TEST_F(SchedulerTest, PromptsAreCutIntoChunksOfTheBudget) {
  Add(70, 3);
  EXPECT_EQ(Step(), (Chunks{{0, 0, 32}}));
  EXPECT_TRUE(plan().rows.empty()) << "nothing is sampled in mid-prompt";
  EXPECT_EQ(plan().tokens, TestPrompt(32));
  EXPECT_EQ(plan().global_pages.size(), 4u);
  EXPECT_EQ(Step(), (Chunks{{0, 32, 32}}));
  EXPECT_EQ(plan().chunks[0].global_first, 4);
  EXPECT_EQ(plan().global_pages.size(), 4u) << "only what is new";
  EXPECT_EQ(Step(), (Chunks{{0, 64, 6}}));
  ASSERT_EQ(plan().rows.size(), 1u);
  EXPECT_EQ(plan().logit_rows, std::vector<int32_t>{5});
  EXPECT_EQ(plan().rows[0].position, 70u);
  EXPECT_EQ(Step(), (Chunks{{0, 70, 1}}));
  EXPECT_EQ(Step(), (Chunks{{0, 71, 1}}));
  EXPECT_TRUE(harness_->scheduler().running().empty());
}

TEST_F(SchedulerTest, DecodesComeFirstThenPrefillsTheOldestWithHalf) {
  Add(4, 9);
  Step();
  Add(40, 9);
  Add(10, 9);
  Add(5, 9);
  // 31 tokens are left: half is the oldest's, what the shorter ones leave of theirs is its too.
  EXPECT_EQ(Step(), (Chunks{{0, 4, 1}, {3, 0, 5}, {2, 0, 10}, {1, 0, 16}}));
  EXPECT_EQ(Step(), (Chunks{{0, 5, 1}, {2, 10, 1}, {3, 5, 1}, {1, 16, 24}}));
}

TEST_F(SchedulerTest, AFullBudgetIsNeverExceededAndAlwaysMakesProgress) {
  Make(Options(8, 3));
  for (int i = 0; i < 5; ++i) Add(7, 20);
  for (int step = 0; step < 400 && !harness_->live().empty(); ++step) {
    int32_t tokens = 0;
    for (const auto& chunk : Step()) tokens += chunk.tokens;
    ASSERT_GT(tokens, 0);
    ASSERT_LE(tokens, 3);
    ASSERT_LE(harness_->scheduler().running().size(), 3u) << "more decodes than a step can hold";
  }
  EXPECT_TRUE(harness_->live().empty());
}

TEST_F(SchedulerTest, TheQueueIsInOrderOfArrivalStepsAndPriority) {
  Make(Options(1, 32));
  Add(4, 50);
  Step();
  Add(200, 5);  // 6 steps
  for (int i = 2; i < 10; ++i) Add(4, 5);
  EXPECT_EQ(Queue(), (std::vector<int64_t>{2, 3, 4, 5, 6, 1, 7, 8, 9}));
  Add(4, 5, -5);  // 10
  Add(4, 5, -1000);
  EXPECT_EQ(Queue().front(), 11);
  EXPECT_EQ(Queue()[5], 10) << "as if it had come with number 5";
}

TEST_F(SchedulerTest, NeitherLengthNorPriorityPassesMoreThanTheBound) {
  HarnessOptions options = Options(1, 32);
  options.engine.max_overtakes = 3;
  Make(options);
  Add(4, 50);
  Step();
  Add(400, 5, 1000);
  for (int i = 2; i < 12; ++i) Add(4, 5, -1000);
  const std::vector<int64_t> queue = Queue();
  EXPECT_EQ(std::find(queue.begin(), queue.end(), 1) - queue.begin(), 5) << "of ten, fewer than 2 * 3 pass";
}

TEST_F(SchedulerTest, WhoeverDoesNotFitIsPassedByAFewThenTheQueueWaits) {
  HarnessOptions options = Options(8, 32);
  options.engine.arena = TestArena(24, 0);
  options.engine.max_overtakes = 2;
  Make(options);
  Add(30, 60);   // 89 tokens: 12 pages and 5 of the window
  Add(100, 20);  // 119 tokens: 15 pages, must wait
  for (int i = 2; i < 6; ++i) Add(1, 2);
  Step();
  EXPECT_EQ(Queue(), (std::vector<int64_t>{1, 5})) << "2 is sooner for its length; 3 and 4 pass it";
  EXPECT_EQ(harness_->scheduler().Queue(1)[0]->schedule.overtaken, 2);
  harness_->Drain();
}

TEST_F(SchedulerTest, DeepPromptsGetSmallerChunksButNeverNone) {
  HarnessOptions options = Options(8, 128);
  options.engine.shrink_budget_with_depth = true;  // next to no fixed work: depth is nearly all the cost
  Make(options);
  Add(400, 1);
  std::vector<int32_t> chunks;
  while (!harness_->live().empty()) chunks.push_back(Step().at(0).tokens);
  EXPECT_TRUE(std::is_sorted(chunks.rbegin(), chunks.rend())) << testing::PrintToString(chunks);
  EXPECT_LT(chunks[0], 128);
  EXPECT_GE(chunks[chunks.size() - 2], 64) << "the oldest gets this far";
}

// Room for some 25 pages of both classes, and nothing promised for answers.
HarnessOptions Crowded(int64_t host_pages) {
  HarnessOptions options = Options(8, 32, 0, 0);
  options.engine.arena = TestArena(30, 0);
  if (host_pages > 0) options.engine.host_arena = TestArena(host_pages, host_pages);
  return options;
}

TEST_F(SchedulerTest, TheYoungestIsSpilledAndNobodyIsAdmittedBeforeItIsBack) {
  Make(Crowded(60));
  for (int i = 0; i < 3; ++i) Add(20, 80);
  while (harness_->scheduler().stats().preemptions == 0) ASSERT_FALSE(Step().empty());
  ASSERT_EQ(harness_->scheduler().spilled().size(), 1u);
  EXPECT_EQ(harness_->scheduler().spilled().front()->id(), 2);
  Add(1, 1);
  while (!harness_->scheduler().spilled().empty()) {
    ASSERT_EQ(Queue(), std::vector<int64_t>{3});
    ASSERT_TRUE(harness_->Turn());
  }
  harness_->Drain();
  EXPECT_EQ(harness_->scheduler().stats().recomputes, 0);
  EXPECT_GT(harness_->scheduler().stats().returns, 0);
}

TEST_F(SchedulerTest, WhoCameBackMakesTwiceAsManyTokensEachTimeBeforeItLeaves) {
  for (const int64_t host_pages : {0, 200}) {
    HarnessOptions options = Crowded(host_pages);
    options.engine.arena = TestArena(120, 0);
    Make(options);
    for (int i = 0; i < 40; ++i) Add(20, 600);
    const int32_t page = harness_->blocks().layout().global.page_tokens;
    std::map<int64_t, std::vector<int32_t>> left;  // output tokens when it was preempted, by sequence
    while (!harness_->live().empty()) {
      for (const auto& [id, sequence] : harness_->live()) {
        const auto times = static_cast<size_t>(sequence->schedule.preempted);
        if (times > left[id].size()) left[id].push_back(sequence->output_tokens());
      }
      ASSERT_TRUE(harness_->Turn());
    }
    size_t most = 0;
    for (const auto& [id, tokens] : left) {
      most = std::max(most, tokens.size());
      for (size_t n = 1; n < tokens.size(); ++n) {
        EXPECT_GT(tokens[n] - tokens[n - 1], (kReturnReserve << (n - 1)) - page) << "sequence " << id;
      }
    }
    EXPECT_GE(most, 3u);
  }
}

TEST_F(SchedulerTest, WithoutRoomOnTheHostTheYoungestIsComputedAgain) {
  Make(Crowded(0));
  for (int i = 0; i < 3; ++i) Add(20, 80);
  harness_->Drain();
  EXPECT_EQ(harness_->scheduler().stats().spills, 0);
  EXPECT_GT(harness_->scheduler().stats().recomputes, 0);
}

TEST_F(SchedulerTest, PlanningAheadChangesNoToken) {
  std::map<int64_t, std::vector<int32_t>> outputs[2];
  for (const int32_t ahead : {1, 2}) {
    HarnessOptions options = Crowded(20);
    options.steps_in_flight = ahead;
    options.stop_every = 40;
    Make(options);
    for (int i = 0; i < 12; ++i) Add(1 + i * 7 % 40, 10 + i * 11 % 60);
    bool sampled = false;
    while (!harness_->live().empty()) {
      ASSERT_TRUE(harness_->Turn());
      for (const PlannedChunk& chunk : plan().chunks) sampled |= chunk.input_row >= 0;
    }
    EXPECT_EQ(sampled, ahead == 2) << "tokens in flight";
    outputs[ahead - 1] = harness_->outputs();
  }
  EXPECT_EQ(outputs[0], outputs[1]);
}

TEST_F(SchedulerTest, RemovingASequenceInAnyStateFreesItsPages) {
  Make(Options(1, 32));
  Sequence &prefill = Add(50, 5), &waiting = Add(5, 5);
  Step();
  EXPECT_EQ(prefill.state(), SequenceState::kPrefill);
  EXPECT_EQ(waiting.state(), SequenceState::kWaiting);
  EXPECT_GT(harness_->blocks().arena().counts(KvClass::kGlobal).referenced, 0);
  harness_->Cancel(prefill);
  harness_->Cancel(waiting);
  for (const KvClass kv_class : {KvClass::kGlobal, KvClass::kWindow}) {
    EXPECT_EQ(harness_->blocks().arena().counts(kv_class).referenced, 0);
    EXPECT_EQ(harness_->blocks().promised(kv_class), 0);
  }
}

TEST_F(SchedulerTest, APlanCarriesSamplingStatePenaltiesBiasAndBans) {
  GenerateRequest request = TestRequest("a", 3, 5);
  request.prompt = {4, 4, 9};
  request.min_tokens = 2;
  request.logprobs = true;
  request.top_logprobs = 3;
  request.sampling = {0.7f, 5, 0.9f, 0.1f, 0.5f, 0.25f, 1.2f, {{3, 1.5f}}, 99};
  const std::shared_ptr<Sequence> sequence = harness_->Add(request).front();
  for (int step = 0; step < 3; ++step) {
    Step();
    ASSERT_EQ(plan().rows.size(), 1u);
    const SampleRow& row = plan().rows[0];
    EXPECT_EQ(row.temperature, 0.7f);
    EXPECT_EQ(row.top_k, 5);
    EXPECT_EQ(row.top_p, 0.9f);
    EXPECT_EQ(row.min_p, 0.1f);
    EXPECT_EQ(row.presence_penalty, 0.5f);
    EXPECT_EQ(row.frequency_penalty, 0.25f);
    EXPECT_EQ(row.repetition_penalty, 1.2f);
    EXPECT_EQ(row.seed, 99u);
    EXPECT_EQ(row.position, 3u + static_cast<uint32_t>(step));
    EXPECT_EQ(row.num_top_logprobs, 3);
    ASSERT_EQ(row.bias_end - row.bias_begin, 1);
    EXPECT_EQ(plan().bias[static_cast<size_t>(row.bias_begin)].token, 3);
    std::map<int32_t, std::pair<int32_t, int32_t>> counts, expected = {{4, {2, 0}}, {9, {1, 0}}};
    for (int i = row.history_begin; i < row.history_end; ++i) {
      const TokenCount& count = plan().history[static_cast<size_t>(i)];
      counts[count.token] = {count.prompt, count.output};
    }
    for (int32_t at = 3; at < 3 + step; ++at) ++expected[sequence->token(at)].second;
    EXPECT_EQ(counts, expected);
    EXPECT_EQ(row.banned_end - row.banned_begin, step < 2 ? 1 : 0) << "until min_tokens are out";
  }
}

TEST_F(SchedulerTest, PromptLogprobsScoreEveryTokenButTheFirst) {
  GenerateRequest request = TestRequest("a", 40, 1);
  request.prompt_logprobs = true;
  harness_->Add(request);
  Step();
  ASSERT_EQ(plan().rows.size(), 32u);
  EXPECT_EQ(plan().rows[31].target, request.prompt[32]);
  Step();
  ASSERT_EQ(plan().rows.size(), 8u);
  EXPECT_EQ(plan().rows[6].target, request.prompt[39]);
  EXPECT_EQ(plan().rows[7].target, -1) << "the last row samples";
}

}  // namespace
}  // namespace hysparse
