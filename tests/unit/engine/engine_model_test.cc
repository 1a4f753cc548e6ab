// The whole engine over a real forward pass: a small HySparse checkpoint of every layer kind, with seeded weights. A
// request's tokens and log probabilities are the same bits alone and amid others, whatever the chunks.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/model/weights.h"
#include "engine/run/model_runner.h"
#include "engine/run/rank_thread.h"
#include "engine/run/worker.h"
#include "tests/unit/engine/test_engine.h"
#include "tests/unit/model/model_folder.h"

namespace hysparse {
namespace {

constexpr int32_t kVocab = 300;

// Full, sparse, SWA and MoE layers; blocks of 8 in pages of 64, windows of 16 in pages of 16.
struct TestModel {
  explicit TestModel(DType dtype, const std::vector<int>& pattern = {0, 2, 2, 1, 0}) {
    nlohmann::json config = TinyConfig();
    config["vocab_size"] = kVocab;
    config["num_hidden_layers"] = 5;
    config["hybrid_layer_pattern"] = pattern;
    config["max_position_embeddings"] = 2048;
    config["moe_layer_freq"] = {0, 1, 1, 0, 1};
    config["n_routed_experts"] = 8;
    config["num_experts_per_tok"] = 2;
    config["moe_intermediate_size"] = 16;
    ModelFolder folder;
    folder.WriteConfig(config);
    spec = ReadModelSpec(folder.path()).value();
    spec.stop_ids = {2};
    backend = MakeCpuBackend({dtype, 2}).value();
    weights = MakeRandomWeights(spec, 17, *backend).value();
  }

  ModelSpec spec;
  std::unique_ptr<Backend> backend;
  Weights weights;
};

struct Memory {
  int64_t arena = 4 << 20, host = 0;  // bytes
  bool prefix_caching = true;
};

std::unique_ptr<Engine> MakeEngine(TestModel& model, int32_t budget, int32_t max_num_seqs, const Memory& memory = {}) {
  EngineOptions options;
  options.max_num_batched_tokens = budget;
  options.max_num_seqs = max_num_seqs;
  options.output_reserve = 0;
  options.prefix_caching = memory.prefix_caching;
  options.kv_layout = MakeKvLayout(model.spec, model.backend->compute_dtype());
  options.arena = MakeArenaLayout(options.kv_layout, memory.arena).value();
  if (memory.host > 0) options.host_arena = MakeArenaLayout(options.kv_layout, memory.host).value();
  options.check_invariants = true;
  const RunnerOptions runner{{budget, max_num_seqs, model.spec.max_context}, options.arena, options.host_arena};
  auto made = ModelRunner::Make(model.spec, model.weights, *model.backend, runner);
  EXPECT_TRUE(made.ok()) << made.status();
  auto worker = Worker::Make(*std::move(made), model.spec.vocab);
  EXPECT_TRUE(worker.ok()) << worker.status();
  return std::make_unique<Engine>(options, model.spec, std::make_unique<RankThread>(*std::move(worker)));
}

int64_t BytesUsed(const Engine& engine) {
  const EngineStats stats = engine.Stats();
  return stats.global.used() + stats.window.used() + stats.host_used;
}

GenerateRequest RandomRequest(std::mt19937& rng, std::string id) {
  GenerateRequest request;
  request.id = std::move(id);
  const int32_t length = std::array{1, 2, 15, 16, 17, 63, 64, 65, 130, 200}[rng() % 10];
  for (int32_t i = 0; i < length; ++i) request.prompt.push_back(static_cast<int32_t>(rng() % kVocab));
  request.max_tokens = 1 + static_cast<int32_t>(rng() % 24);
  request.min_tokens = request.max_tokens / 2;
  request.sampling.temperature = rng() % 4 ? 0.9f : 0.0f;
  request.sampling.top_k = rng() % 2 ? 40 : 0;
  request.sampling.top_p = rng() % 2 ? 0.9f : 1.0f;
  request.sampling.repetition_penalty = rng() % 3 ? 1.0f : 1.2f;
  request.sampling.presence_penalty = rng() % 3 ? 0.0f : 0.4f;
  request.sampling.seed = rng();
  request.logprobs = true;
  request.top_logprobs = static_cast<int32_t>(rng() % 6);
  request.prompt_logprobs = rng() % 2 == 0;
  request.n = 1 + static_cast<int32_t>(rng() % 2);
  return request;
}

void ExpectSame(const CollectSink::Choice& a, const CollectSink::Choice& b) {
  EXPECT_EQ(a.finish, b.finish);
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.logprobs, b.logprobs);  // the same bits
  const auto same = [](const std::vector<TokenOutput>& x, const std::vector<TokenOutput>& y) {
    ASSERT_EQ(x.size(), y.size());
    for (size_t i = 0; i < x.size(); ++i) {
      EXPECT_EQ(x[i].token, y[i].token);
      EXPECT_EQ(x[i].logprob, y[i].logprob);
      ASSERT_EQ(x[i].top_logprobs.size(), y[i].top_logprobs.size());
      for (size_t k = 0; k < x[i].top_logprobs.size(); ++k) {
        EXPECT_EQ(x[i].top_logprobs[k].token, y[i].top_logprobs[k].token);
        EXPECT_EQ(x[i].top_logprobs[k].logprob, y[i].top_logprobs[k].logprob);
      }
    }
  };
  same(a.prompt, b.prompt);
  same(a.outputs, b.outputs);
}

class EngineModel : public testing::TestWithParam<DType> {
 protected:
  EngineModel() : model_(GetParam()) {}

  // Each request by itself, its prompt in one chunk.
  std::vector<std::vector<CollectSink::Choice>> RunAlone(const std::vector<GenerateRequest>& requests) {
    std::unique_ptr<Engine> engine = MakeEngine(model_, 512, 1, {.prefix_caching = false});
    engine->Start();
    std::vector<std::vector<CollectSink::Choice>> results;
    for (const GenerateRequest& request : requests) {
      auto sink = std::make_shared<CollectSink>(request.n);
      EXPECT_TRUE(engine->Submit(request, sink).ok());
      results.push_back(sink->Wait());
      for (const auto& choice : results.back()) EXPECT_NE(choice.finish, FinishReason::kError) << choice.error;
    }
    return results;
  }

  // Submits all at once to an engine that does not run yet, and runs it.
  void ExpectTheSame(Engine& engine, const std::vector<GenerateRequest>& requests,
                     const std::vector<std::vector<CollectSink::Choice>>& alone) const {
    std::vector<std::shared_ptr<CollectSink>> sinks;
    for (const GenerateRequest& request : requests) {
      sinks.push_back(std::make_shared<CollectSink>(request.n));
      ASSERT_TRUE(engine.Submit(request, sinks.back()).ok());
    }
    engine.Start();
    for (size_t i = 0; i < requests.size(); ++i) {
      SCOPED_TRACE(testing::Message() << "request " << i << " of " << requests[i].prompt.size() << " tokens");
      const auto& choices = sinks[i]->Wait();
      for (size_t c = 0; c < choices.size(); ++c) ExpectSame(choices[c], alone[i][c]);
    }
    engine.Stop();
    EXPECT_EQ(BytesUsed(engine), 0);
  }

  // Bytes for so many sequences of 224 tokens.
  int64_t FewSessions(int64_t count) const {
    const KvLayout layout = MakeKvLayout(model_.spec, GetParam());
    return count * (layout.global.MaxPages(224, 1) * layout.global.page_bytes() +
                    layout.window.MaxPages(224, 1) * layout.window.page_bytes());
  }

  TestModel model_;
};

TEST_P(EngineModel, ARequestGetsTheSameBitsAloneAndAmidOthersInAnyChunks) {
  std::mt19937 rng(21);
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < 13; ++i) requests.push_back(RandomRequest(rng, std::to_string(i)));
  const auto alone = RunAlone(requests);
  for (const int32_t budget : {5, 16, 33, 64, 200}) {
    SCOPED_TRACE(testing::Message() << "budget " << budget);
    std::unique_ptr<Engine> engine = MakeEngine(model_, budget, 4 + static_cast<int32_t>(rng() % 12));
    ExpectTheSame(*engine, requests, alone);
  }
}

TEST_P(EngineModel, CancelsLeaveNoPageAndDoNotDisturbTheOthers) {
  std::mt19937 rng(22);
  std::vector<GenerateRequest> kept;
  for (int i = 0; i < 8; ++i) kept.push_back(RandomRequest(rng, "kept" + std::to_string(i)));
  const auto alone = RunAlone(kept);
  // Room for few at a time, so that pages change hands all the time.
  std::unique_ptr<Engine> engine = MakeEngine(model_, 40, 6, {.arena = FewSessions(4), .host = 1 << 20});
  engine->Start();
  std::vector<std::shared_ptr<CollectSink>> sinks, doomed;
  for (size_t i = 0; i < kept.size(); ++i) {
    for (int k = 0; k < 6; ++k) {
      const GenerateRequest request = RandomRequest(rng, "doomed" + std::to_string(i * 6 + static_cast<size_t>(k)));
      doomed.push_back(std::make_shared<CollectSink>(request.n));
      ASSERT_TRUE(engine->Submit(request, doomed.back()).ok());
    }
    sinks.push_back(std::make_shared<CollectSink>(kept[i].n));
    ASSERT_TRUE(engine->Submit(kept[i], sinks.back()).ok());
    for (int k = 0; k < 6; ++k) {
      std::this_thread::sleep_for(std::chrono::microseconds(rng() % 3000));
      engine->Cancel("doomed" + std::to_string(rng() % doomed.size()));
    }
  }
  for (size_t i = 0; i < doomed.size(); ++i) engine->Cancel("doomed" + std::to_string(i));
  for (auto& sink : doomed) sink->Wait();
  for (size_t i = 0; i < kept.size(); ++i) {
    SCOPED_TRACE(i);
    const auto& choices = sinks[i]->Wait();
    for (size_t c = 0; c < choices.size(); ++c) ExpectSame(choices[c], alone[i][c]);
  }
  engine->Stop();
  EXPECT_EQ(BytesUsed(*engine), 0);
}

// Prompts of a few families, so that prefixes are found, with answers that outgrow what was promised.
GenerateRequest CrowdRequest(std::mt19937& rng, int i, const std::vector<std::vector<int32_t>>& families) {
  GenerateRequest request = RandomRequest(rng, std::to_string(i));
  const std::vector<int32_t>& family = families[rng() % families.size()];
  request.prompt.assign(family.begin(), family.begin() + 64 + rng() % 96);
  for (uint32_t more = 1 + rng() % 20; more > 0; --more) request.prompt.push_back(static_cast<int32_t>(rng() % kVocab));
  request.max_tokens = 40;
  request.min_tokens = 40;
  request.prompt_logprobs = i % 8 == 0;
  request.n = 1;
  return request;
}

TEST_P(EngineModel, ACrowdInACacheForTenGetsTheBitsOfARunAlone) {
  std::mt19937 rng(23);
  std::vector<std::vector<int32_t>> families(5);
  for (auto& family : families) {
    for (int i = 0; i < 160; ++i) family.push_back(static_cast<int32_t>(rng() % kVocab));
  }
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < 64; ++i) requests.push_back(CrowdRequest(rng, i, families));
  const auto alone = RunAlone(requests);
  struct Case {
    int32_t budget;
    Memory memory;
  };
  const int64_t ten = FewSessions(10);
  for (const auto& [budget, memory] : std::vector<Case>{
           {64, {ten, 8 << 20, false}}, {200, {ten, 8 << 20, true}}, {33, {ten, 0, true}}, {64, {ten, 0, false}}}) {
    SCOPED_TRACE(testing::Message() << "budget " << budget << ", host arena " << memory.host << ", prefix caching "
                                    << memory.prefix_caching);
    std::unique_ptr<Engine> engine = MakeEngine(model_, budget, std::min(budget, 64), memory);
    ExpectTheSame(*engine, requests, alone);
    const EngineStats stats = engine->Stats();
    EXPECT_GT(stats.preemptions, 0);
    EXPECT_EQ(stats.spills > 0, memory.host > 0);
    EXPECT_EQ(stats.recomputes > 0, memory.host == 0);
    EXPECT_EQ(stats.prefix.hit_tokens > 0, memory.prefix_caching);
    EXPECT_EQ(stats.prefix.rebuilt_tokens > 0, memory.prefix_caching);
  }
}

// Twenty turns: from the second on, nine of ten prompt tokens are not computed again.
void RunConversation(TestModel& model) {
  std::mt19937 rng(24);
  const std::unique_ptr<Engine> engine = MakeEngine(model, 64, 4);
  engine->Start();
  const auto turn = [&](const std::vector<int32_t>& prompt, const std::string& salt, int i) {
    GenerateRequest request;
    request.id = salt + std::to_string(i);
    request.prompt = prompt;
    request.max_tokens = request.min_tokens = 8;
    request.cache_salt = salt;
    auto sink = std::make_shared<CollectSink>();
    EXPECT_TRUE(engine->Submit(request, sink).ok());
    return sink->Wait()[0].tokens;
  };
  std::vector<int32_t> prompt;
  int64_t asked = 0;
  for (int i = 0; i < 20; ++i) {
    for (int more = i == 0 ? 700 : 24; more > 0; --more) prompt.push_back(static_cast<int32_t>(rng() % kVocab));
    if (i > 0) asked += static_cast<int64_t>(prompt.size());
    const std::vector<int32_t> answer = turn(prompt, "a", i);
    ASSERT_EQ(answer.size(), 8u);
    prompt.insert(prompt.end(), answer.begin(), answer.end());
  }
  const EngineStats stats = engine->Stats();
  EXPECT_GE(static_cast<double>(stats.prefix.hit_tokens - stats.prefix.rebuilt_tokens),
            0.9 * static_cast<double>(asked))
      << stats.prefix.hit_tokens << " found and " << stats.prefix.rebuilt_tokens << " rebuilt of " << asked;
  turn(prompt, "b", 0);
  EXPECT_EQ(engine->Stats().prefix.hit_tokens, stats.prefix.hit_tokens) << "another tenant found pages";
}

TEST_P(EngineModel, AConversationFindsNineTenthsOfItsPromptsAndAnotherTenantNone) {
  RunConversation(model_);
  TestModel swa(GetParam(), {0, 1, 1, 1, 0});
  RunConversation(swa);
}

INSTANTIATE_TEST_SUITE_P(DTypes, EngineModel, testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& info) { return Name(info.param); });

}  // namespace
}  // namespace hysparse
