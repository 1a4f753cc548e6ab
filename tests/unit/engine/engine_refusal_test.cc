// What the engine refuses, and what becomes of requests that are cancelled, fail or meet its end.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "tests/unit/engine/test_engine.h"

namespace hysparse {
namespace {

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

}  // namespace
}  // namespace hysparse
