// A stand-in for the model that notices every mistake in paging: "K and V" are the token ids, kept in pages as the plan
// says, and the next token is a hash of the whole context, read back through the block tables. A page with two writers,
// a wrong table or a window that slid too far gives another token, or an error that names it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/engine.h"
#include "engine/kv/residency.h"

namespace hysparse {

// One full layer and one SWA layer: both KV classes.
inline ModelSpec TestSpec() {
  ModelSpec spec;
  spec.vocab = 101;
  spec.hidden = 8;
  spec.max_context = 512;
  spec.stop_ids = {7};
  LayerSpec full;
  full.heads = full.kv_heads = 1;
  full.qk_dim = full.v_dim = 4;
  LayerSpec swa = full;
  swa.kind = LayerKind::kSwa;
  swa.window = 16;
  spec.layers = {full, swa};
  return spec;
}

inline EngineOptions TestOptions() {
  EngineOptions options;
  options.max_num_seqs = 8;
  options.max_num_batched_tokens = 32;
  options.max_waiting = 64;
  options.global_pages = 200;
  options.window_pages = 60;
  options.global_page_tokens = 8;
  options.window_page_tokens = 4;
  options.check_invariants = true;
  return options;
}

inline uint64_t Hash(std::span<const int32_t> tokens) {
  uint64_t hash = 1469598103934665603u;
  for (int32_t token : tokens) hash = (hash ^ static_cast<uint64_t>(token + 1)) * 1099511628211u;
  return hash ^ hash >> 29;
}
// What the fake model says after `context`: never a stop id of TestSpec unless `stop_every` lets it.
inline int32_t FakeToken(std::span<const int32_t> context, const SampleRow& row, std::span<const int32_t> banned,
                         uint32_t stop_every) {
  const uint64_t hash = Hash(context) + (row.temperature > 0 ? row.seed * 31 + row.choice * 17 : 0);
  const auto is_banned = [&](int32_t t) { return std::find(banned.begin(), banned.end(), t) != banned.end(); };
  if (stop_every > 0 && hash / 101 % stop_every == 0 && !is_banned(7)) return 7;
  int32_t token = static_cast<int32_t>(hash % 101);
  while (token == 7 || is_banned(token)) token = (token + 1) % 101;
  return token;
}
inline float FakeLogprob(std::span<const int32_t> context, int32_t token) {
  return -static_cast<float>((Hash(context) + static_cast<uint64_t>(token)) % 1000) / 100.0f;
}

// Steps as the executor saw them. Shared with the test, since the engine owns the executor.
struct FakeModel {
  struct Chunk {
    int64_t sequence;
    int32_t position, tokens;
    bool operator==(const Chunk&) const = default;
  };

  uint32_t stop_every = 0;                            // 1 in so many tokens is the stop id 7
  std::function<absl::Status(const StepPlan&)> hook;  // engine thread, before each step
  std::mutex mutex;
  std::vector<std::vector<Chunk>> steps;

  std::vector<std::vector<Chunk>> Steps() {
    std::lock_guard lock(mutex);
    return steps;
  }
};

class FakeExecutor : public Executor {
 public:
  FakeExecutor(std::shared_ptr<FakeModel> model, const ModelSpec& spec, const EngineOptions& options)
      : model_(std::move(model)),
        options_(options),
        window_(spec.layers.back().window),
        global_(static_cast<size_t>(options.global_pages * options.global_page_tokens), -1),
        slide_(static_cast<size_t>(options.window_pages * options.window_page_tokens), -1) {}

  absl::StatusOr<StepResult> Execute(const StepPlan& plan) override {
    {
      std::lock_guard lock(model_->mutex);
      auto& step = model_->steps.emplace_back();
      for (const PlannedChunk& c : plan.chunks) {
        step.push_back({c.sequence, c.position, static_cast<int32_t>(c.tokens.size())});
      }
    }
    if (model_->hook) {
      if (absl::Status status = model_->hook(plan); !status.ok()) return status;
    }
    if (plan.num_tokens() > options_.max_num_batched_tokens) return absl::InternalError("over the budget");
    // All writes before all reads, as on a device: a page in two tables would show.
    for (const PlannedChunk& chunk : plan.chunks) {
      if (absl::Status status = Write(chunk); !status.ok()) return status;
    }
    StepResult result;
    for (const PlannedChunk& chunk : plan.chunks) {
      if (absl::Status status = Read(chunk, plan, result); !status.ok()) return status;
    }
    return result;
  }

 private:
  int32_t* Global(const PlannedChunk& c, int32_t position) {
    const size_t page = static_cast<size_t>(position / options_.global_page_tokens);
    if (page >= c.global_pages.size()) return nullptr;
    return &global_[static_cast<size_t>(c.global_pages[page] * options_.global_page_tokens +
                                        position % options_.global_page_tokens)];
  }
  int32_t* Window(const PlannedChunk& c, int32_t position) {
    const int32_t page = position / options_.window_page_tokens - c.window_first_page;
    if (page < 0 || page >= static_cast<int32_t>(c.window_pages.size())) return nullptr;
    return &slide_[static_cast<size_t>(c.window_pages[static_cast<size_t>(page)] * options_.window_page_tokens +
                                       position % options_.window_page_tokens)];
  }

  absl::Status Write(const PlannedChunk& chunk) {
    for (size_t i = 0; i < chunk.tokens.size(); ++i) {
      const int32_t position = chunk.position + static_cast<int32_t>(i);
      int32_t *global = Global(chunk, position), *window = Window(chunk, position);
      if (global == nullptr || window == nullptr) return absl::InternalError(absl::StrCat("no page for ", position));
      *global = *window = chunk.tokens[i];
    }
    return absl::OkStatus();
  }

  absl::Status Read(const PlannedChunk& chunk, const StepPlan& plan, StepResult& result) {
    if (chunk.logit_rows.size() != chunk.rows.size()) return absl::InternalError("rows do not match");
    const int32_t end = chunk.position + static_cast<int32_t>(chunk.tokens.size());
    std::vector<int32_t> context;
    for (int32_t i = 0; i < end; ++i) context.push_back(*Global(chunk, i));
    for (int32_t i = std::max(0, chunk.position - window_ + 1); i < end; ++i) {
      const int32_t* held = Window(chunk, i);
      if (held == nullptr || *held != context[static_cast<size_t>(i)]) {
        return absl::InternalError(absl::StrCat("the window lost token ", i));
      }
    }
    for (size_t r = 0; r < chunk.rows.size(); ++r) {
      const SampleRow& row = chunk.rows[r];
      const auto until = std::span(context).first(static_cast<size_t>(chunk.position + chunk.logit_rows[r] + 1));
      if (row.position != until.size()) return absl::InternalError("a row samples another position");
      const auto banned =
          std::span(plan.banned)
              .subspan(static_cast<size_t>(row.banned_begin), static_cast<size_t>(row.banned_end - row.banned_begin));
      const int32_t token = row.target >= 0 ? row.target : FakeToken(until, row, banned, model_->stop_every);
      result.token.push_back(token);
      result.logprob.push_back(row.want_logprob ? FakeLogprob(until, token) : 0);
      auto& top = result.top_logprobs.emplace_back();
      for (int32_t i = 0; i < row.num_top_logprobs; ++i) top.push_back({i, -static_cast<float>(i)});
    }
    return absl::OkStatus();
  }

  std::shared_ptr<FakeModel> model_;
  EngineOptions options_;
  int32_t window_;
  std::vector<int32_t> global_, slide_;  // [pages * page_tokens] token ids
};

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
