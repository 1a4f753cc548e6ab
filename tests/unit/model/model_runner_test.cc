#include "engine/run/model_runner.h"

#include <cmath>
#include <cstring>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/model/allocation_count.h"
#include "tests/unit/model/model_folder.h"

namespace hysparse {
namespace {

using testing::HasSubstr;

constexpr int32_t kTokens = 64, kSequences = 3, kContext = 256, kPages = 12, kWindowPages = 24;

class ModelRunnerTest : public testing::Test {
 protected:
  ModelRunnerTest() {
    nlohmann::json config = TinyConfig();
    config.update({{"hybrid_layer_pattern", {0, 2, 1, 0}},
                   {"moe_layer_freq", {0, 1, 0, 0}},
                   {"n_routed_experts", 4},
                   {"num_experts_per_tok", 2},
                   {"moe_intermediate_size", 16},
                   {"n_shared_experts", 1}});
    folder_.WriteConfig(config);
    spec_ = *ReadModelSpec(folder_.path());
    backend_ = *MakeCpuBackend({.compute_dtype = DType::kF32, .threads = 2});
    weights_ = *MakeRandomWeights(spec_, 5, *backend_);
    RunnerOptions options;
    options.limits = {kTokens, kSequences, kContext};
    options.global_pages = kPages;
    options.window_pages = kWindowPages;
    runner_ = *ModelRunner::Make(spec_, weights_, *backend_, options);
  }

  // A chunk of a sequence whose pages are page0, page0 + 1, … in both classes, logits wanted for every token.
  PlannedChunk Chunk(int32_t position, int32_t count, int32_t page0 = 0) const {
    PlannedChunk chunk;
    chunk.position = position;
    const int32_t window_page = runner_->pool().layout().window.page_tokens;
    for (int32_t i = 0; i < count; ++i) {
      chunk.tokens.push_back((7 * (position + i) + 3) % spec_.vocab);
      chunk.logit_rows.push_back(i);
    }
    for (int32_t p = 0; p * 64 < position + count; ++p) chunk.global_pages.push_back(page0 + p);
    chunk.window_first_page = std::max(0, position - 15) / window_page;
    for (int32_t p = chunk.window_first_page; p * window_page < position + count; ++p)
      chunk.window_pages.push_back((page0 + p) % kWindowPages);
    return chunk;
  }
  std::vector<float> Forward(const StepPlan& plan, int32_t slice = 1000) {
    const absl::Status status = runner_->Forward(plan);
    EXPECT_TRUE(status.ok()) << status;
    return AllLogits(slice);
  }
  std::vector<float> AllLogits(int32_t slice = 1000) {
    std::vector<float> out;
    slice = std::min(slice, runner_->logit_slice());
    for (int32_t first = 0; first < runner_->num_logit_rows(); first += slice) {
      const int32_t count = std::min(slice, runner_->num_logit_rows() - first);
      const float* logits = runner_->Logits(first, count);
      out.insert(out.end(), logits, logits + static_cast<int64_t>(count) * spec_.vocab);
    }
    return out;
  }
  static StepPlan Plan(std::vector<PlannedChunk> chunks) {
    StepPlan plan;
    plan.chunks = std::move(chunks);
    return plan;
  }

  ModelFolder folder_;
  ModelSpec spec_;
  std::unique_ptr<Backend> backend_;
  Weights weights_;
  std::unique_ptr<ModelRunner> runner_;
};

TEST_F(ModelRunnerTest, AChunkedPromptGivesTheBitsOfAWholeOne) {
  const std::vector<float> whole = Forward(Plan({Chunk(0, 60)}));
  ASSERT_EQ(whole.size(), 60u * 40u);
  for (const float logit : whole) ASSERT_TRUE(std::isfinite(logit));
  std::vector<float> chunked;
  for (int32_t position = 0; position < 60; position += 13) {
    // Another sequence decodes and prefills beside it.
    PlannedChunk other = Chunk(position, 7, 4);
    other.logit_rows.clear();
    const auto part = Forward(Plan({Chunk(position, std::min(13, 60 - position)), other}));
    chunked.insert(chunked.end(), part.begin(), part.end());
  }
  ASSERT_EQ(chunked.size(), whole.size());
  EXPECT_EQ(std::memcmp(chunked.data(), whole.data(), whole.size() * sizeof(float)), 0);
}

TEST_F(ModelRunnerTest, LogitsComeInAnySlices) {
  const StepPlan plan = Plan({Chunk(0, 50)});
  const std::vector<float> whole = Forward(plan);
  for (const int32_t slice : {1, 7, 49}) EXPECT_EQ(Forward(plan, slice), whole);
  EXPECT_EQ(AllLogits(3), whole) << "asking again gives the same";
}

TEST_F(ModelRunnerTest, OnlyWantedRowsHaveLogits) {
  const std::vector<float> whole = Forward(Plan({Chunk(0, 20)}));
  PlannedChunk some = Chunk(0, 20);
  some.logit_rows = {3, 19};
  const std::vector<float> two = Forward(Plan({some}));
  ASSERT_EQ(runner_->num_logit_rows(), 2);
  EXPECT_EQ(std::vector<float>(two.begin() + 40, two.end()), std::vector<float>(whole.end() - 40, whole.end()));
  some.logit_rows.clear();
  EXPECT_TRUE(Forward(Plan({some})).empty());
}

TEST_F(ModelRunnerTest, AStepAllocatesNothing) {
  const StepPlan plan = Plan({Chunk(0, 40), Chunk(0, 9, 4)});
  Forward(plan);
  const int64_t before = AllocationCount();
  ASSERT_GT(before, 0) << "the counter counts";
  ASSERT_TRUE(runner_->Forward(plan).ok());
  runner_->Logits(0, runner_->num_logit_rows());
  EXPECT_EQ(AllocationCount(), before);
}

TEST_F(ModelRunnerTest, TracesTheChoicesOfEveryToken) {
  class Trace : public StepTrace {
   public:
    void OnBlocks(int32_t layer, int32_t kv_heads, int32_t top, std::span<const int32_t> ids,
                  std::span<const int32_t> counts) override {
      EXPECT_EQ(layer, 0) << "layer 3 is no oracle";
      EXPECT_EQ(ids.size(), counts.size() * static_cast<size_t>(top));
      for (size_t i = 0; i < counts.size(); ++i) {
        const int32_t blocks = static_cast<int32_t>(i) / kv_heads / 8 + 1;
        EXPECT_EQ(counts[i], std::min(top, blocks));
        for (int32_t j = 0; j < counts[i]; ++j)
          EXPECT_LT(ids[i * static_cast<size_t>(top) + static_cast<size_t>(j)], blocks);
      }
      ++calls;
    }
    void OnExperts(int32_t layer, int32_t top, std::span<const int32_t> ids) override {
      EXPECT_EQ(layer, 1);
      EXPECT_EQ(ids.size(), 60u * static_cast<size_t>(top));
      for (size_t i = 0; i < ids.size(); i += 2) EXPECT_TRUE(0 <= ids[i] && ids[i] < ids[i + 1] && ids[i + 1] < 4);
      ++calls;
    }
    int calls = 0;
  } trace;
  runner_->set_trace(&trace);
  Forward(Plan({Chunk(0, 60)}));
  EXPECT_EQ(trace.calls, 2);
  runner_->set_trace(nullptr);
  Forward(Plan({Chunk(0, 60)}));
  EXPECT_EQ(trace.calls, 2);
}

TEST_F(ModelRunnerTest, RefusesAPlanThatBreaksItsLimits) {
  const std::vector<float> good = Forward(Plan({Chunk(0, 10)}));
  const auto refuse = [&](const StepPlan& plan, const char* problem) {
    const absl::Status status = runner_->Forward(plan);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(problem));
  };
  refuse(Plan({}), "0 sequences");
  refuse(Plan({Chunk(0, 40), Chunk(0, 25, 4)}), "65 tokens");
  refuse(Plan({Chunk(0, 1), Chunk(0, 1), Chunk(0, 1), Chunk(0, 1)}), "4 sequences");
  refuse(Plan({Chunk(0, 0)}), "sequence 0");
  refuse(Plan({Chunk(250, 7)}), "a context of 256");
  refuse(Plan({Chunk(-1, 2)}), "a context of 256");

  PlannedChunk chunk = Chunk(60, 10);
  chunk.global_pages.pop_back();
  refuse(Plan({chunk}), "do not cover");
  chunk = Chunk(60, 10);
  chunk.global_pages[1] = kPages;
  refuse(Plan({chunk}), "page 12 of 12");
  chunk.global_pages[1] = -1;
  refuse(Plan({chunk}), "page -1");
  chunk = Chunk(60, 10);
  chunk.window_pages.pop_back();
  refuse(Plan({chunk}), "do not cover");
  chunk = Chunk(60, 10);
  ++chunk.window_first_page;  // the first token still reads the page before
  refuse(Plan({chunk}), "do not cover");
  chunk = Chunk(0, 10);
  chunk.logit_rows = {10};
  refuse(Plan({chunk}), "logit row 10");
  chunk.logit_rows.assign(65, 0);
  refuse(Plan({chunk}), "more logit rows");

  EXPECT_EQ(Forward(Plan({Chunk(0, 10)})), good) << "a refused plan leaves nothing behind";
}

TEST_F(ModelRunnerTest, LoadingReportsProgressFromStartToEnd) {
  folder_.Write("model.safetensors", SafetensorsFile(TensorsOf(spec_)));
  std::vector<double> seen;
  const auto weights = LoadWeights(spec_, *Checkpoint::Open(folder_.path()), *backend_,
                                   [&](double fraction) { seen.push_back(fraction); });
  ASSERT_TRUE(weights.ok()) << weights.status();
  ASSERT_GT(seen.size(), 10u);
  EXPECT_LT(seen.front(), 0.5);
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  EXPECT_EQ(seen.back(), 1.0);
  EXPECT_EQ(weights->parameters, TensorTable(spec_).elements());
}

TEST_F(ModelRunnerTest, ABrokenCheckpointIsRefusedBeforeAnythingIsLoaded) {
  std::vector<FileTensor> tensors = TensorsOf(spec_);
  tensors.back().shape = {39, 32};
  folder_.Write("model.safetensors", SafetensorsFile(tensors));
  int calls = 0;
  const auto weights = LoadWeights(spec_, *Checkpoint::Open(folder_.path()), *backend_, [&](double) { ++calls; });
  ASSERT_FALSE(weights.ok());
  EXPECT_THAT(std::string(weights.status().message()), HasSubstr("[39, 32]"));
  EXPECT_EQ(calls, 0);
}

}  // namespace
}  // namespace hysparse
