// What a client sees of the engine: tokens, ends, refusals, cancellation, errors and figures, over a fake model.
#include "engine/engine.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <limits>
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

TEST(Engine, AFullQueueRefusesAndRecovers) {
  EngineOptions options = TestOptions();
  options.max_waiting = 3;
  TestEngine t(options);
  GenerateRequest two = TestRequest("a", 5, 5);
  two.n = 2;
  auto first = t.Submit(two);
  two.id = "b";
  auto sink = std::make_shared<CollectSink>(2);
  EXPECT_EQ(t.engine.Submit(two, sink).code(), absl::StatusCode::kResourceExhausted);
  auto second = t.Submit(TestRequest("c", 5, 5));
  EXPECT_EQ(t.engine.Stats().waiting, 3);
  t.engine.Start();
  first->Wait();
  second->Wait();
  EXPECT_EQ(t.StatsWhenIdle().waiting, 0);
  t.Submit(two)->Wait();
  two.id = "d";
  two.n = 4;  // more than the queue ever holds
  EXPECT_EQ(t.engine.Submit(two, sink).code(), absl::StatusCode::kInvalidArgument);
}

TEST(Engine, RefusesWhatCanNeverFitWithTheNumbers) {
  // 12 slabs: for 80 tokens 10 and, for a window of 16 in up to 6 pages, 3.
  TestEngine t(TestOptions(13, 0));
  auto sink = std::make_shared<CollectSink>();
  const absl::Status status = t.engine.Submit(TestRequest("a", 70, 30), sink);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("99 tokens needs 13 global"), std::string_view::npos) << status;
  t.Submit(TestRequest("b", 70, 11));  // exactly 80 tokens of KV
  t.engine.Start();
}

TEST(Engine, RefusesWhatIsOutOfRange) {
  TestEngine t;
  auto sink = std::make_shared<CollectSink>();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto refuse = [&](const char* what, auto change) {
    GenerateRequest request = TestRequest("a", 10, 5);
    change(request);
    EXPECT_EQ(t.engine.Submit(request, sink).code(), absl::StatusCode::kInvalidArgument) << what;
  };
  refuse("an empty prompt", [](auto& r) { r.prompt.clear(); });
  refuse("id = vocabulary", [](auto& r) { r.prompt[3] = 101; });
  refuse("negative id", [](auto& r) { r.prompt[3] = -1; });
  refuse("context", [](auto& r) { r.prompt.assign(512, 1); });
  refuse("context, scored", [](auto& r) { r.prompt.assign(513, 1), r.max_tokens = 0; });
  refuse("max_tokens", [](auto& r) { r.max_tokens = -1; });
  refuse("min_tokens", [](auto& r) { r.min_tokens = 6; });
  refuse("n", [](auto& r) { r.n = 0; });
  refuse("top_logprobs", [](auto& r) { r.top_logprobs = 21; });
  refuse("temperature", [](auto& r) { r.sampling.temperature = -0.1f; });
  refuse("NaN temperature", [&](auto& r) { r.sampling.temperature = nan; });
  refuse("top_p", [](auto& r) { r.sampling.top_p = 1.1f; });
  refuse("top_k", [](auto& r) { r.sampling.top_k = -1; });
  refuse("min_p", [&](auto& r) { r.sampling.min_p = nan; });
  refuse("repetition", [](auto& r) { r.sampling.repetition_penalty = 0; });
  refuse("bias id", [](auto& r) { r.sampling.logit_bias = {{101, 1.0f}}; });
  refuse("bias", [&](auto& r) { r.sampling.logit_bias = {{1, nan}}; });
  refuse("many biases", [](auto& r) { r.sampling.logit_bias.assign(102, {1, 1.0f}); });
  EXPECT_EQ(t.engine.Submit(TestRequest("a", 10, 5), nullptr).code(), absl::StatusCode::kInvalidArgument);
}

TEST(Engine, AnIdIsUniqueWhileItsRequestLives) {
  TestEngine t;
  auto sink = t.Submit(TestRequest("a", 5, 5));
  EXPECT_EQ(t.engine.Submit(TestRequest("a", 5, 5), sink).code(), absl::StatusCode::kAlreadyExists);
  t.engine.Start();
  sink->Wait();
  t.Submit(TestRequest("a", 5, 5))->Wait();
}

TEST(Engine, CancelEndsAWaitingAPrefillingAndADecodingRequest) {
  EngineOptions options = TestOptions();
  options.max_num_seqs = 2;
  TestEngine t(options);
  std::vector<std::shared_ptr<CollectSink>> sinks;
  // Runs on the engine thread between steps, so that each request is in a known state.
  t.model->hook = [&](const StepPlan& plan) {
    if (plan.step == 3) {
      for (const char* id : {"decode", "prefill", "waiting", "unknown"}) t.engine.Cancel(id);
    }
    return absl::OkStatus();
  };
  sinks.push_back(t.Submit(TestRequest("decode", 4, 100)));
  sinks.push_back(t.Submit(TestRequest("prefill", 300, 100)));
  sinks.push_back(t.Submit(TestRequest("waiting", 4, 100)));
  t.engine.Start();
  for (auto& sink : sinks) EXPECT_EQ(sink->Wait()[0].finish, FinishReason::kCancelled);
  EXPECT_EQ(sinks[0]->Wait()[0].tokens.size(), 2u) << "what the step under way samples is dropped";
  EXPECT_TRUE(sinks[1]->Wait()[0].tokens.empty());
  const EngineStats stats = t.StatsWhenIdle();
  EXPECT_EQ(stats.global.used() + stats.window.used(), 0);
  EXPECT_EQ(t.model->Steps().size(), 3u);
}

TEST(Engine, CancelOfOneChoiceLeavesTheOthers) {
  TestEngine t;
  GenerateRequest request = TestRequest("a", 4, 20);
  request.n = 3;
  t.model->hook = [&](const StepPlan& plan) {
    if (plan.step == 5) t.engine.Cancel("a", 1);  // admitted in step 3, when choice 0 had computed the prompt
    if (plan.step == 7) t.engine.Cancel("a", 1);  // again: it has ended
    return absl::OkStatus();
  };
  auto sink = t.Submit(request);
  t.engine.Start();
  const auto& choices = sink->Wait();
  EXPECT_EQ(choices[0].finish, FinishReason::kLength);
  EXPECT_EQ(choices[1].finish, FinishReason::kCancelled);
  EXPECT_EQ(choices[1].tokens.size(), 2u);
  EXPECT_EQ(choices[2].finish, FinishReason::kLength);
}

TEST(Engine, AFailedStepFailsItsSequencesAndNotTheNext) {
  EngineOptions options = TestOptions();
  options.max_num_seqs = 2;
  TestEngine t(options);
  t.model->hook = [](const StepPlan& plan) {
    return plan.step == 3 ? absl::DataLossError("the device hiccuped") : absl::OkStatus();
  };
  auto a = t.Submit(TestRequest("a", 4, 20)), b = t.Submit(TestRequest("b", 4, 20, 1));
  const GenerateRequest later = TestRequest("c", 4, 20, 2);
  auto c = t.Submit(later);
  t.engine.Start();
  for (auto& sink : {a, b}) {
    EXPECT_EQ(sink->Wait()[0].finish, FinishReason::kError);
    EXPECT_EQ(sink->Wait()[0].error, absl::DataLossError("the device hiccuped"));
    EXPECT_EQ(sink->Wait()[0].tokens.size(), 2u);
  }
  EXPECT_EQ(c->Wait()[0].tokens, ExpectedTokens(later, 20));
  const EngineStats stats = t.StatsWhenIdle();
  EXPECT_EQ(stats.global.used() + stats.window.used(), 0);
}

// Answers every row with the same token, or with too few rows.
class ConstantExecutor : public Executor {
 public:
  ConstantExecutor(int32_t token, size_t missing) : token_(token), missing_(missing) {}
  void Launch(StepPlan plan) override { rows_.push_back(plan.rows.size()); }
  absl::StatusOr<StepResult> Wait() override {
    const size_t rows = rows_.front() - std::min(rows_.front(), missing_);
    rows_.pop_front();
    return StepResult{std::vector<int32_t>(rows, token_), std::vector<float>(rows, 0.0f),
                      std::vector<std::vector<TokenLogprob>>(rows)};
  }

 private:
  std::deque<size_t> rows_;
  int32_t token_;
  size_t missing_;
};

TEST(Engine, UnsampledRowsAndShortResultsEndInAnError) {
  for (const auto& [token, missing] : std::vector<std::pair<int32_t, size_t>>{{-1, 0}, {101, 0}, {3, 1}}) {
    Engine engine(TestOptions(), TestSpec(), std::make_unique<ConstantExecutor>(token, missing));
    engine.Start();
    auto sink = std::make_shared<CollectSink>();
    ASSERT_TRUE(engine.Submit(TestRequest("a", 5, 5), sink).ok());
    EXPECT_EQ(sink->Wait()[0].finish, FinishReason::kError);
    EXPECT_EQ(sink->Wait()[0].error.code(), absl::StatusCode::kInternal);
  }
}

TEST(Engine, StopCancelsEverythingAndRefusesWhatComesAfter) {
  TestEngine t;
  std::atomic<bool> stopping = false;
  t.model->hook = [&](const StepPlan& plan) {
    if (plan.step < 8) return absl::OkStatus();
    while (!stopping) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // far from done when Stop arrives
    return absl::OkStatus();
  };
  std::vector<std::shared_ptr<CollectSink>> sinks;
  for (int i = 0; i < 20; ++i) sinks.push_back(t.Submit(TestRequest(std::to_string(i), 100, 400)));
  t.engine.Start();
  sinks[0]->WaitForTokens(1);
  stopping = true;
  t.engine.Stop();
  for (auto& sink : sinks) {
    ASSERT_TRUE(sink->Done());
    EXPECT_EQ(sink->Wait()[0].finish, FinishReason::kCancelled);
  }
  EXPECT_EQ(t.engine.Submit(TestRequest("x", 5, 5), sinks[0]).code(), absl::StatusCode::kUnavailable);
  const EngineStats stats = t.engine.Stats();
  EXPECT_EQ(stats.running + stats.waiting, 0);
  EXPECT_EQ(stats.global.used() + stats.window.used(), 0);
  t.engine.Stop();
}

TEST(Engine, StopBeforeStartAnswersWhatWasQueued) {
  TestEngine t;
  auto sink = t.Submit(TestRequest("a", 5, 5));
  t.engine.Stop();
  EXPECT_EQ(sink->Wait()[0].finish, FinishReason::kCancelled);
}

TEST(Engine, TheSinkIsReleasedAfterTheLastChoice) {
  TestEngine t;
  GenerateRequest request = TestRequest("a", 5, 5);
  request.n = 2;
  auto sink = t.Submit(request);
  std::weak_ptr<CollectSink> weak = sink;
  t.engine.Start();
  sink->Wait();
  sink.reset();
  t.StatsWhenIdle();
  EXPECT_TRUE(weak.expired());
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
