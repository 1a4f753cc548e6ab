// What a step holds: order, budget, chunks and block tables, without an engine or a model.
#include "engine/schedule/scheduler.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <numeric>

#include "tests/unit/engine/fake_executor.h"

namespace hysparse {
namespace {

using Chunks = std::vector<FakeModel::Chunk>;

class SchedulerTest : public testing::Test {
 protected:
  SchedulerTest() { Make({8, 32}, 200); }

  void Make(SchedulerLimits limits, int64_t global_pages) {
    KvLayout layout = MakeKvLayout(TestSpec(), DType::kF32);
    layout.global.page_tokens = 8;
    layout.window.page_tokens = 4;
    sequences_.clear();
    scheduler_.reset();
    blocks_ = std::make_unique<BlockManager>(layout.global, global_pages, layout.window, 60);
    scheduler_ = std::make_unique<Scheduler>(limits, blocks_.get());
  }

  Sequence& Add(GenerateRequest request, int32_t choice = 0) {
    auto state = std::make_shared<RequestState>();
    state->request = std::move(request);
    sequences_.push_back(std::make_shared<Sequence>(static_cast<int64_t>(sequences_.size()), state, choice));
    scheduler_->Add(sequences_.back());
    return *sequences_.back();
  }

  // Plans a step and commits it with token 1 for every sampled row.
  Chunks Step() {
    plan_ = scheduler_->Plan();
    Chunks chunks;
    for (size_t i = 0; i < plan_.chunks.size(); ++i) {
      const PlannedChunk& chunk = plan_.chunks[i];
      chunks.push_back({chunk.sequence, chunk.position, static_cast<int32_t>(chunk.tokens.size())});
      const std::shared_ptr<Sequence> sequence = scheduler_->planned()[i];
      sequence->Advance();
      for (const SampleRow& row : chunk.rows) {
        if (row.target >= 0) continue;
        if (const FinishReason finish = sequence->Accept(1); finish != FinishReason::kNone) End(*sequence, finish);
      }
    }
    return chunks;
  }
  void End(Sequence& sequence, FinishReason finish) {
    sequence.Finish(finish);
    scheduler_->Remove(sequence);
  }

  std::unique_ptr<BlockManager> blocks_;
  std::unique_ptr<Scheduler> scheduler_;
  std::vector<std::shared_ptr<Sequence>> sequences_;
  StepPlan plan_;
};

TEST_F(SchedulerTest, PromptsAreCutIntoChunksOfTheBudget) {
  Add(TestRequest("a", 70, 3));
  EXPECT_EQ(Step(), (Chunks{{0, 0, 32}}));
  EXPECT_TRUE(plan_.chunks[0].rows.empty()) << "nothing is sampled in mid-prompt";
  EXPECT_EQ(plan_.chunks[0].tokens, TestPrompt(32));
  EXPECT_EQ(Step(), (Chunks{{0, 32, 32}}));
  EXPECT_EQ(Step(), (Chunks{{0, 64, 6}}));
  ASSERT_EQ(plan_.chunks[0].rows.size(), 1u);
  EXPECT_EQ(plan_.chunks[0].logit_rows, std::vector<int32_t>{5});
  EXPECT_EQ(plan_.chunks[0].rows[0].position, 70u);
  EXPECT_EQ(Step(), (Chunks{{0, 70, 1}}));
  EXPECT_EQ(Step(), (Chunks{{0, 71, 1}}));
  EXPECT_TRUE(scheduler_->running().empty());
}

TEST_F(SchedulerTest, DecodesComeFirstAndSeveralPrefillsShareAStep) {
  Add(TestRequest("a", 4, 9));
  Step();
  Add(TestRequest("b", 10, 9));
  Add(TestRequest("c", 40, 9));
  Add(TestRequest("d", 5, 9));
  EXPECT_EQ(Step(), (Chunks{{0, 4, 1}, {1, 0, 10}, {2, 0, 21}}));
  // Decodes in order of arrival, then the prefill under way, then the queue.
  EXPECT_EQ(Step(), (Chunks{{0, 5, 1}, {1, 10, 1}, {2, 21, 19}, {3, 0, 5}}));
  EXPECT_EQ(Step(), (Chunks{{0, 6, 1}, {1, 11, 1}, {2, 40, 1}, {3, 5, 1}}));
}

TEST_F(SchedulerTest, AFullBudgetIsNeverExceededAndAlwaysMakesProgress) {
  Make({8, 3}, 200);
  for (int i = 0; i < 5; ++i) Add(TestRequest("r", 7, 20));
  for (int step = 0; step < 400 && !(scheduler_->running().empty() && scheduler_->waiting().empty()); ++step) {
    const Chunks chunks = Step();
    int32_t tokens = 0;
    for (const auto& chunk : chunks) tokens += chunk.tokens;
    ASSERT_GT(tokens, 0);
    ASSERT_LE(tokens, 3);
    ASSERT_LE(scheduler_->running().size(), 3u) << "more decodes than a step can hold";
  }
  EXPECT_TRUE(scheduler_->running().empty() && scheduler_->waiting().empty());
}

TEST_F(SchedulerTest, NobodyOvertakesTheHeadOfTheQueue) {
  Make({8, 32}, 10);
  Add(TestRequest("a", 30, 20));  // 49 tokens: 7 of 10 pages
  Add(TestRequest("b", 60, 8));   // 67 tokens: 9 pages, must wait
  Add(TestRequest("c", 2, 2));    // 1 page: would fit
  EXPECT_EQ(Step(), (Chunks{{0, 0, 30}}));
  EXPECT_EQ(Step(), (Chunks{{0, 30, 1}}));
  End(*sequences_[0], FinishReason::kCancelled);
  EXPECT_EQ(Step(), (Chunks{{1, 0, 32}}));
  EXPECT_EQ(Step(), (Chunks{{1, 32, 28}, {2, 0, 2}}));
}

TEST_F(SchedulerTest, AtMostMaxNumSeqsRun) {
  Make({2, 32}, 200);
  for (int i = 0; i < 3; ++i) Add(TestRequest("r", 3, 2));
  EXPECT_EQ(Step(), (Chunks{{0, 0, 3}, {1, 0, 3}}));
  EXPECT_EQ(Step(), (Chunks{{0, 3, 1}, {1, 3, 1}}));
  EXPECT_EQ(Step(), (Chunks{{2, 0, 3}}));
}

TEST_F(SchedulerTest, RemovingASequenceInAnyStateFreesItsPages) {
  Sequence& running = Add(TestRequest("a", 50, 5));
  Sequence& waiting = Add(TestRequest("b", 5, 5));
  Step();
  EXPECT_EQ(running.state(), SequenceState::kPrefill);
  EXPECT_EQ(waiting.state(), SequenceState::kWaiting);
  EXPECT_GT(blocks_->pool(KvClass::kGlobal).referenced(), 0);
  End(running, FinishReason::kCancelled);
  End(waiting, FinishReason::kCancelled);
  for (KvClass kv_class : {KvClass::kGlobal, KvClass::kWindow}) {
    EXPECT_EQ(blocks_->pool(kv_class).referenced(), 0);
    EXPECT_EQ(blocks_->pool(kv_class).promised(), 0);
  }
  EXPECT_TRUE(Step().empty());
}

TEST_F(SchedulerTest, APlanCarriesSamplingStatePenaltiesBiasAndBans) {
  GenerateRequest request = TestRequest("a", 3, 5);
  request.prompt = {4, 4, 9};
  request.min_tokens = 2;
  request.logprobs = true;
  request.top_logprobs = 3;
  request.sampling = {0.7f, 5, 0.9f, 0.1f, 0.5f, 0.25f, 1.2f, {{3, 1.5f}}, 99};
  Sequence& sequence = Add(request, 2);
  sequence.shared()->stop_ids = {7, 8};
  for (int step = 0; step < 3; ++step) {
    Step();
    ASSERT_EQ(plan_.chunks.size(), 1u);
    const SampleRow& row = plan_.chunks[0].rows.at(0);
    EXPECT_EQ(row.temperature, 0.7f);
    EXPECT_EQ(row.top_k, 5);
    EXPECT_EQ(row.top_p, 0.9f);
    EXPECT_EQ(row.min_p, 0.1f);
    EXPECT_EQ(row.presence_penalty, 0.5f);
    EXPECT_EQ(row.frequency_penalty, 0.25f);
    EXPECT_EQ(row.repetition_penalty, 1.2f);
    EXPECT_EQ(row.seed, 99u);
    EXPECT_EQ(row.choice, 2u);
    EXPECT_EQ(row.position, 3u + static_cast<uint32_t>(step));
    EXPECT_EQ(row.num_top_logprobs, 3);
    ASSERT_EQ(row.bias_end - row.bias_begin, 1);
    EXPECT_EQ(plan_.bias[static_cast<size_t>(row.bias_begin)].token, 3);
    std::map<int32_t, std::pair<int32_t, int32_t>> counts;
    for (int i = row.history_begin; i < row.history_end; ++i) {
      const TokenCount& count = plan_.history[static_cast<size_t>(i)];
      counts[count.token] = {count.prompt, count.output};
    }
    std::map<int32_t, std::pair<int32_t, int32_t>> expected = {{4, {2, 0}}, {9, {1, 0}}};
    if (step > 0) expected[1] = {0, step};
    EXPECT_EQ(counts, expected);
    EXPECT_EQ(row.banned_end - row.banned_begin, step < 2 ? 2 : 0) << "until min_tokens are out";
  }
}

TEST_F(SchedulerTest, PromptLogprobsScoreEveryTokenButTheFirst) {
  GenerateRequest request = TestRequest("a", 40, 1);
  request.prompt_logprobs = true;
  Add(request);
  Step();
  ASSERT_EQ(plan_.chunks[0].rows.size(), 32u);
  EXPECT_EQ(plan_.chunks[0].rows[31].target, request.prompt[32]);
  Step();
  ASSERT_EQ(plan_.chunks[0].rows.size(), 8u);
  EXPECT_EQ(plan_.chunks[0].rows[6].target, request.prompt[39]);
  EXPECT_EQ(plan_.chunks[0].rows[7].target, -1) << "the last row samples";
}

}  // namespace
}  // namespace hysparse
