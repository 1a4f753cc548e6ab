// What a client sees of the engine: tokens, their ends and figures, over a fake model.
#include "engine/engine.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/engine/test_engine.h"

namespace hysparse {
namespace {

using Chunks = std::vector<FakeModel::Chunk>;

TEST(Engine, TokensArriveInOrderUntilMaxTokens) {
  TestEngine t;
  const GenerateRequest request = TestRequest("a", 45, 30);
  auto sink = t.Submit(request);
  t.engine.Start();
  const auto& choice = sink->Wait()[0];
  EXPECT_EQ(choice.tokens, ExpectedTokens(request, 30));
  EXPECT_EQ(choice.finish, FinishReason::kLength);
  EXPECT_EQ(choice.stop_token, -1);
  EXPECT_EQ(t.model->Steps()[0], (Chunks{{0, 0, 32}}));
  EXPECT_EQ(t.model->Steps()[1], (Chunks{{0, 32, 13}}));
  EXPECT_EQ(t.model->Steps().size(), 31u) << "two chunks, the second sampling the first token";
}

TEST(Engine, ARequestAmidOthersGetsTheTokensItGetsAlone) {
  for (int32_t budget : {8, 9, 17, 32, 300}) {
    EngineOptions options = TestOptions();
    options.max_num_batched_tokens = budget;
    TestEngine t(options);
    std::vector<GenerateRequest> requests;
    std::vector<std::shared_ptr<CollectSink>> sinks;
    for (int32_t i = 0; i < 20; ++i) {
      requests.push_back(TestRequest(std::to_string(i), 1 + i * 13 % 90, 5 + i * 7 % 40, i));
      sinks.push_back(t.Submit(requests.back()));
    }
    t.engine.Start();
    for (size_t i = 0; i < sinks.size(); ++i) {
      EXPECT_EQ(sinks[i]->Wait()[0].tokens, ExpectedTokens(requests[i], requests[i].max_tokens)) << "request " << i;
    }
  }
}

TEST(Engine, AStopIdEndsTheChoiceAndIsNotAmongItsTokens) {
  TestEngine t;
  t.model->stop_every = 8;
  GenerateRequest request = TestRequest("a", 20, 400);
  const std::vector<int32_t> expected = ExpectedTokens(request, 400, 0, 8);
  ASSERT_LT(expected.size(), 400u);
  auto sink = t.Submit(request);
  t.engine.Start();
  EXPECT_EQ(sink->Wait()[0].tokens, expected);
  EXPECT_EQ(sink->Wait()[0].finish, FinishReason::kStop);
  EXPECT_EQ(sink->Wait()[0].stop_token, 7);
}

TEST(Engine, IgnoreEosPassesTheModelsStopIdsButNotTheRequests) {
  TestEngine t;
  t.model->stop_every = 8;
  GenerateRequest request = TestRequest("a", 20, 40);
  request.ignore_eos = true;
  const std::vector<int32_t> expected = ExpectedTokens(request, 40, 0, 8);
  ASSERT_NE(std::count(expected.begin(), expected.end(), 7), 0) << "the case does not show anything";
  auto ignored = t.Submit(request);
  request.id = "b";
  request.stop_token_ids = {expected[3], 5000, -1};  // ids outside the vocabulary can never be sampled
  auto stopped = t.Submit(request);
  t.engine.Start();
  EXPECT_EQ(ignored->Wait()[0].tokens, expected);
  EXPECT_EQ(ignored->Wait()[0].finish, FinishReason::kLength);
  EXPECT_EQ(stopped->Wait()[0].stop_token, expected[3]);
  EXPECT_EQ(stopped->Wait()[0].finish, FinishReason::kStop);
}

TEST(Engine, AStopIdAtTheLastPlaceIsAStop) {
  TestEngine t;
  GenerateRequest request = TestRequest("a", 20, 5);
  request.stop_token_ids = {ExpectedTokens(request, 5)[4]};
  auto sink = t.Submit(request);
  t.engine.Start();
  EXPECT_EQ(sink->Wait()[0].finish, FinishReason::kStop);
  EXPECT_EQ(sink->Wait()[0].tokens.size(), 4u);
}

TEST(Engine, MinTokensBansStopIdsUntilThen) {
  TestEngine t;
  t.model->stop_every = 1;  // stops whenever it may
  GenerateRequest request = TestRequest("a", 20, 50);
  request.min_tokens = 12;
  auto sink = t.Submit(request);
  t.engine.Start();
  EXPECT_EQ(sink->Wait()[0].tokens.size(), 12u);
  EXPECT_EQ(sink->Wait()[0].finish, FinishReason::kStop);
}

TEST(Engine, TheContextEndsAChoiceByLength) {
  EngineOptions options = TestOptions();
  options.max_model_len = 60;
  TestEngine t(options);
  auto sink = t.Submit(TestRequest("a", 50, 1000));
  t.engine.Start();
  EXPECT_EQ(sink->Wait()[0].tokens.size(), 10u);
  EXPECT_EQ(sink->Wait()[0].finish, FinishReason::kLength);
}

TEST(Engine, EachChoiceIsASequenceOfItsOwn) {
  TestEngine t;
  t.model->stop_every = 20;
  GenerateRequest request = TestRequest("a", 30, 60);
  request.n = 3;
  request.sampling.temperature = 1;
  request.sampling.seed = 5;
  auto sink = t.Submit(request);
  t.engine.Start();
  const auto& choices = sink->Wait();
  for (int32_t c = 0; c < 3; ++c) {
    EXPECT_EQ(choices[static_cast<size_t>(c)].tokens, ExpectedTokens(request, 60, c, 20));
  }
  EXPECT_NE(choices[0].tokens, choices[1].tokens);
}

TEST(Engine, LogprobsComeWithTheirTokens) {
  TestEngine t;
  GenerateRequest request = TestRequest("a", 10, 4);
  auto without = t.Submit(request);
  request.id = "b";
  request.logprobs = true;
  request.top_logprobs = 2;
  auto with = t.Submit(request);
  t.engine.Start();
  EXPECT_EQ(without->Wait()[0].logprobs, (std::vector<float>{0, 0, 0, 0}));
  std::vector<int32_t> context = request.prompt;
  for (const TokenOutput& output : with->Wait()[0].outputs) {
    EXPECT_EQ(output.logprob, FakeLogprob(context, output.token));
    EXPECT_EQ(output.top_logprobs.size(), 2u);
    context.push_back(output.token);
  }
}

TEST(Engine, PromptLogprobsCoverThePromptAcrossChunksOfChoiceZeroOnly) {
  for (int32_t max_tokens : {0, 1, 3}) {
    for (int32_t length : {1, 2, 32, 33, 80}) {
      TestEngine t;
      GenerateRequest request = TestRequest("a", length, max_tokens);
      request.prompt_logprobs = true;
      request.n = 2;
      auto sink = t.Submit(request);
      t.engine.Start();
      const auto& choices = sink->Wait();
      ASSERT_EQ(choices[0].prompt.size(), static_cast<size_t>(length - 1)) << max_tokens << " " << length;
      for (size_t i = 0; i < choices[0].prompt.size(); ++i) {
        EXPECT_EQ(choices[0].prompt[i].token, request.prompt[i + 1]);
        EXPECT_EQ(choices[0].prompt[i].logprob,
                  FakeLogprob(std::span(request.prompt).first(i + 1), request.prompt[i + 1]));
      }
      for (const auto& choice : choices) {
        EXPECT_EQ(choice.tokens, ExpectedTokens(request, max_tokens));
        EXPECT_EQ(choice.finish, FinishReason::kLength);
      }
      EXPECT_TRUE(choices[1].prompt.empty());
    }
  }
}

TEST(Engine, MaxTokensZeroWithoutScoringEndsAtOnce) {
  TestEngine t;
  auto sink = t.Submit(TestRequest("a", 20, 0));
  t.engine.Start();
  EXPECT_EQ(sink->Wait()[0].finish, FinishReason::kLength);
  EXPECT_TRUE(sink->Wait()[0].tokens.empty());
  EXPECT_TRUE(t.model->Steps().empty());
  EXPECT_EQ(t.StatsWhenIdle().waiting, 0);
}

TEST(Engine, StatsFollowTheWork) {
  TestEngine t;
  EXPECT_EQ(t.engine.Stats().kv_total, 230 * 256);
  EXPECT_EQ(t.engine.Stats().kv_unassigned, 230 * 256);
  EngineStats seen;
  t.model->hook = [&](const StepPlan& plan) {
    if (plan.step == 4) seen = t.engine.Stats();
    return absl::OkStatus();
  };
  auto sink = t.Submit(TestRequest("a", 70, 20));
  t.engine.Start();
  sink->Wait();
  EXPECT_EQ(seen.running, 1);
  EXPECT_EQ(seen.waiting, 0);
  EXPECT_EQ(seen.steps, 2) << "chunks count; the third still runs while the fourth is launched";
  EXPECT_EQ(seen.kv_tokens, 70);
  EXPECT_EQ(seen.kv_window_tokens, 18) << "52 to 69";
  EXPECT_EQ(seen.global.referenced, 9 * 256) << "pages of 8 tokens";
  EXPECT_EQ(seen.window.referenced, 5 * 128) << "tokens 55 to 70 in pages of 4";
  EXPECT_EQ(seen.window.cached, 128)
      << "kept for those who continue at token 64: tokens 49 to 63, the first page alone";
  const EngineStats idle = t.StatsWhenIdle();
  EXPECT_EQ(idle.kv_tokens, 0);
  EXPECT_EQ(idle.steps, static_cast<int64_t>(t.model->Steps().size()));
}

TEST(Engine, AStuckStepShowsInTheHeartbeat) {
  TestEngine t;
  std::atomic<bool> release = false, inside = false;
  t.model->hook = [&](const StepPlan&) {
    inside = true;
    while (!release) std::this_thread::yield();
    return absl::OkStatus();
  };
  auto sink = t.Submit(TestRequest("a", 5, 1));
  t.engine.Start();
  while (!inside) std::this_thread::yield();
  const double before = t.engine.Stats().seconds_since_step;
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_GE(t.engine.Stats().seconds_since_step, before + 0.02);
  release = true;
  sink->Wait();
  t.StatsWhenIdle();
}

class CountingObserver : public EngineObserver {
 public:
  void OnStep(int32_t tokens, int32_t prompt_tokens, int32_t sequences, double seconds) override {
    steps.push_back({tokens, prompt_tokens, sequences});
    EXPECT_GE(seconds, 0);
  }
  void OnFirstToken(double ttft_s) override {
    ++first;
    EXPECT_GE(ttft_s, 0);
  }
  void OnInterTokenLatency(double seconds) override {
    ++between;
    EXPECT_GE(seconds, 0);
  }
  void OnFinished(const RequestTimes& times) override { finished.push_back(times); }

  std::vector<std::array<int32_t, 3>> steps;
  int first = 0, between = 0;
  std::vector<RequestTimes> finished;
};

TEST(Engine, TheObserverSeesStepsTokensAndEnds) {
  CountingObserver observer;
  {
    TestEngine t(TestOptions(), &observer);
    auto sink = t.Submit(TestRequest("a", 40, 3));
    t.engine.Start();
    sink->Wait();
  }
  EXPECT_EQ(observer.steps, (std::vector<std::array<int32_t, 3>>{{32, 32, 1}, {8, 8, 1}, {1, 0, 1}, {1, 0, 1}}));
  EXPECT_EQ(observer.first, 1);
  EXPECT_EQ(observer.between, 2);
  ASSERT_EQ(observer.finished.size(), 1u);
  const RequestTimes& times = observer.finished[0];
  EXPECT_EQ(times.prompt_tokens, 40);
  EXPECT_EQ(times.output_tokens, 3);
  EXPECT_EQ(times.finish, FinishReason::kLength);
  EXPECT_NEAR(times.queue_s + times.prefill_s + times.decode_s, times.e2e_s, 1e-9);
  EXPECT_NEAR(times.queue_s + times.prefill_s, times.ttft_s, 1e-9);
}

}  // namespace
}  // namespace hysparse
