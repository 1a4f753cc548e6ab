// An engine on a fake model, the requests that tests give it and the answers they must get.
#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "tests/unit/engine/fake_executor.h"

namespace hysparse {

// Keeps a request's outputs per choice; any thread may wait.
class CollectSink : public OutputSink {
 public:
  explicit CollectSink(int32_t n = 1) : choices_(static_cast<size_t>(n)) {}

  struct Choice {
    std::vector<int32_t> tokens;
    std::vector<float> logprobs;
    std::vector<TokenOutput> prompt, outputs;
    FinishReason finish = FinishReason::kNone;
    int32_t stop_token = -1;
    absl::Status error;
    bool after_finish = false;  // an output came after the last one
  };

  void OnOutput(StepOutput output) override {
    std::lock_guard lock(mutex_);
    Choice& choice = choices_.at(static_cast<size_t>(output.choice));
    choice.after_finish |= choice.finish != FinishReason::kNone;
    for (TokenOutput& t : output.prompt) choice.prompt.push_back(std::move(t));
    for (TokenOutput& t : output.tokens) {
      choice.tokens.push_back(t.token);
      choice.logprobs.push_back(t.logprob);
      choice.outputs.push_back(std::move(t));
    }
    choice.finish = output.finish;
    choice.stop_token = output.stop_token;
    choice.error = output.error;
    if (output.finish != FinishReason::kNone) ++finished_;
    changed_.notify_all();
  }

  // Waits until all choices have ended.
  const std::vector<Choice>& Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return finished_ >= choices_.size(); });
    return choices_;
  }
  void WaitForTokens(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return choices_[0].tokens.size() >= count; });
  }
  bool Done() {
    std::lock_guard lock(mutex_);
    return finished_ >= choices_.size();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Choice> choices_;
  size_t finished_ = 0;
};

inline std::vector<int32_t> TestPrompt(int32_t length, int32_t salt = 0) {
  std::vector<int32_t> prompt;
  for (int32_t i = 0; i < length; ++i) prompt.push_back((i * 37 + salt * 13 + 1) % 101);
  return prompt;
}

inline GenerateRequest TestRequest(std::string id, int32_t prompt, int32_t max_tokens, int32_t salt = 0) {
  GenerateRequest request;
  request.id = std::move(id);
  request.prompt = TestPrompt(prompt, salt);
  request.max_tokens = max_tokens;
  request.sampling.temperature = 0;
  return request;
}

// The tokens that a request must get, computed without an engine.
inline std::vector<int32_t> ExpectedTokens(const GenerateRequest& request, int32_t count, int32_t choice = 0,
                                           uint32_t stop_every = 0) {
  std::vector<int32_t> context = request.prompt, out;
  SampleRow row;
  row.temperature = request.sampling.temperature;
  row.seed = request.sampling.seed;
  row.choice = static_cast<uint32_t>(choice);
  for (int32_t i = 0; i < count; ++i) {
    const int32_t token = FakeToken(context, row, {}, stop_every);
    if (token == 7 && !request.ignore_eos) break;
    out.push_back(token);
    context.push_back(token);
  }
  return out;
}

// An engine on a fake model.
struct TestEngine {
  explicit TestEngine(EngineOptions opts = TestOptions(), EngineObserver* observer = nullptr,
                      ModelSpec model_spec = TestSpec())
      : options(opts),
        spec(std::move(model_spec)),
        model(std::make_shared<FakeModel>()),
        engine(options, spec, std::make_unique<FakeExecutor>(model, spec, options), observer) {}

  // Submits and returns the sink; fails the test when refused.
  std::shared_ptr<CollectSink> Submit(GenerateRequest request) {
    auto sink = std::make_shared<CollectSink>(request.n);
    const absl::Status status = engine.Submit(std::move(request), sink);
    EXPECT_TRUE(status.ok()) << status;
    return sink;
  }
  // As a front end asks, which waits for nothing.
  absl::StatusOr<QuoteResult> Quote(int64_t prompt_tokens, int64_t max_tokens) {
    std::promise<SnapshotPtr> given;
    const absl::Status asked = engine.AskSnapshot([&](const SnapshotPtr& snapshot) { given.set_value(snapshot); });
    if (!asked.ok()) return asked;
    return engine.Quote(*given.get_future().get(), prompt_tokens, max_tokens);
  }
  // The figures are published after the step whose outputs a sink has seen already.
  EngineStats StatsWhenIdle() {
    for (;;) {
      const EngineStats stats = engine.Stats();
      if (stats.running + stats.waiting == 0 && stats.seconds_since_step == 0) return stats;
      std::this_thread::yield();
    }
  }

  EngineOptions options;
  ModelSpec spec;
  std::shared_ptr<FakeModel> model;
  Engine engine;
};

}  // namespace hysparse
