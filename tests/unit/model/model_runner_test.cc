#include "engine/run/model_runner.h"

#include <cmath>
#include <cstring>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/model/allocation_count.h"
#include "tests/unit/model/model_folder.h"
#include "tests/unit/model/test_sequence.h"

namespace hysparse {
namespace {

using testing::HasSubstr;

constexpr int32_t kTokens = 64, kSequences = 3, kContext = 256;

// A chunk whose ranges are vectors of its own.
struct TestChunk : PlannedChunk {
  std::vector<int32_t> token_ids, global_ids, window_ids, logits;
};

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
    options.arena = *MakeArenaLayout(MakeKvLayout(spec_, DType::kF32), 1 << 20);
    window_ids_ = options.arena.page_ids(KvClass::kWindow);
    global_ids_ = options.arena.page_ids(KvClass::kGlobal);
    runner_ = *ModelRunner::Make(spec_, weights_, *backend_, options);
  }

  // A chunk of a sequence whose window pages are page0, page0 + 1, … and whose global pages lie at the arena's end;
  // logits are wanted for every token.
  TestChunk Chunk(int32_t position, int32_t count, int32_t page0 = 0) const {
    TestChunk chunk;
    chunk.position = position;
    const int32_t window_page = runner_->pool().layout().window.page_tokens;
    for (int32_t i = 0; i < count; ++i) {
      chunk.token_ids.push_back((7 * (position + i) + 3) % spec_.vocab);
      chunk.logits.push_back(i);
    }
    for (int32_t p = 0; p * 64 < position + count; ++p) chunk.global_ids.push_back(global_ids_ - 1 - page0 - p);
    chunk.window_first_page = std::max(0, position - 15) / window_page;
    for (int32_t p = chunk.window_first_page; p * window_page < position + count; ++p)
      chunk.window_ids.push_back((page0 + p) % 24);
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
  // Chunk i of sequence and slot i.
  static StepPlan Plan(const std::vector<TestChunk>& chunks) {
    StepPlan plan;
    for (const TestChunk& chunk : chunks) {
      PlannedChunk& planned = plan.chunks.emplace_back(chunk);
      planned.sequence = planned.slot = static_cast<int32_t>(plan.chunks.size()) - 1;
      planned.tokens = AppendRange(plan.tokens, chunk.token_ids);
      planned.global_pages = AppendRange(plan.global_pages, chunk.global_ids);
      planned.window_pages = AppendRange(plan.window_pages, chunk.window_ids);
      planned.rows = AppendRange(plan.logit_rows, chunk.logits);
    }
    plan.rows.resize(plan.logit_rows.size());
    return plan;
  }

  ModelFolder folder_;
  ModelSpec spec_;
  std::unique_ptr<Backend> backend_;
  Weights weights_;
  std::unique_ptr<ModelRunner> runner_;
  int32_t window_ids_ = 0, global_ids_ = 0;
};

TEST_F(ModelRunnerTest, AChunkedPromptGivesTheBitsOfAWholeOne) {
  const std::vector<float> whole = Forward(Plan({Chunk(0, 60)}));
  ASSERT_EQ(whole.size(), 60u * 40u);
  for (const float logit : whole) ASSERT_TRUE(std::isfinite(logit));
  std::vector<float> chunked;
  for (int32_t position = 0; position < 60; position += 13) {
    // Another sequence decodes and prefills beside it.
    TestChunk other = Chunk(position, 7, 4);
    other.logits.clear();
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
  TestChunk some = Chunk(0, 20);
  some.logits = {3, 19};
  const std::vector<float> two = Forward(Plan({some}));
  ASSERT_EQ(runner_->num_logit_rows(), 2);
  EXPECT_EQ(std::vector<float>(two.begin() + 40, two.end()), std::vector<float>(whole.end() - 40, whole.end()));
  some.logits.clear();
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

  const auto refuse_chunk = [&](auto change, const char* problem) {
    TestChunk chunk = Chunk(60, 10);
    change(chunk);
    refuse(Plan({Chunk(0, 10, 4), chunk}), problem);
  };
  const std::string global_end = absl::StrCat("page ", global_ids_, " of ", global_ids_);
  refuse_chunk([](TestChunk& c) { c.global_ids.pop_back(); }, "1 global pages");
  refuse_chunk([&](TestChunk& c) { c.global_ids[1] = global_ids_; }, global_end.c_str());
  refuse_chunk([](TestChunk& c) { c.global_ids[1] = -1; }, "page -1");
  refuse_chunk([](TestChunk& c) { c.global_ids.resize(5); }, "of at most 256");
  refuse_chunk([](TestChunk& c) { c.global_first = 1; }, "where 0 are known");
  refuse_chunk([](TestChunk& c) { c.window_ids.pop_back(); }, "do not cover");
  refuse_chunk([](TestChunk& c) { ++c.window_first_page; }, "do not cover tokens 45");
  refuse_chunk([](TestChunk& c) { c.window_ids.resize(20); }, "more than its context needs");
  refuse_chunk([&](TestChunk& c) { c.window_ids[0] = window_ids_; }, "page ");
  refuse_chunk([](TestChunk& c) { c.logits = {10}; }, "logit row 10");
  refuse_chunk([](TestChunk& c) { c.logits.assign(65, 0); }, "75 rows to sample; at most 64");
  refuse_chunk([](TestChunk& c) { c.token_ids[3] = kSampledToken; }, "token -1 at position 63");
  refuse_chunk([](TestChunk& c) { c.write_from = 66; }, "logit row 0");
  refuse_chunk([](TestChunk& c) { c.write_from = c.window_from = 61; }, "a rebuild from 61");
  refuse_chunk([](TestChunk& c) { c.window_from = 50; }, "a rebuild from 50 up to 0");
  refuse_chunk([](TestChunk& c) { c.write_from = 257; }, "up to 257");

  const auto refuse_plan = [&](auto change, const char* problem) {
    StepPlan plan = Plan({Chunk(0, 10), Chunk(60, 10, 4)});
    change(plan);
    refuse(plan, problem);
  };
  refuse_plan([](StepPlan& p) { p.chunks[1].slot = 0; }, "twice");
  refuse_plan([](StepPlan& p) { p.chunks[1].slot = 3; }, "slot 3 of 3");
  refuse_plan([](StepPlan& p) { p.chunks[0].slot = -1; }, "slot -1");
  refuse_plan([](StepPlan& p) { p.chunks[1].tokens.begin = 9; }, "where 10 comes next");
  refuse_plan([](StepPlan& p) { p.chunks[1].tokens.end = 21; }, "tokens 60");
  refuse_plan([](StepPlan& p) { p.tokens.push_back(1); }, "20 of 21 tokens");
  refuse_plan([](StepPlan& p) { p.chunks[1].rows.begin = 9; }, "where 10 comes next");
  refuse_plan([](StepPlan& p) { p.chunks[1].rows.end = 19; }, "19 of 20 rows");
  refuse_plan([](StepPlan& p) { p.rows.pop_back(); }, "20 logit rows and 19 rows");
  refuse_plan([](StepPlan& p) { p.chunks[1].global_pages.end = 9; }, "of 3");
  refuse_plan([](StepPlan& p) { p.chunks[1].window_pages.begin = -1; }, "pages -1");
  refuse_plan([](StepPlan& p) { p.rows[3].bias_end = 1; }, "entries");
  refuse_plan([](StepPlan& p) { p.rows[3].history_begin = -1; }, "entries");
  refuse_plan([](StepPlan& p) { p.rows[3].banned_begin = 1; }, "entries");
  refuse_plan([](StepPlan& p) { p.history = {{kSampledToken, 0, 1}}, p.rows[3].history_end = 1; }, "history");
  // Slot 0 holds one page, of the plan that was good.
  refuse_plan([](StepPlan& p) { p.updates = {{0, 1, 0}}; }, "page 1 of 1");
  refuse_plan([](StepPlan& p) { p.updates = {{3, 0, 0}}; }, "slot 3 of 3");
  refuse_plan([&](StepPlan& p) { p.updates = {{0, 0, global_ids_}}; }, "to page");
  refuse_plan([](StepPlan& p) { p.moves = {{KvClass::kWindow, -1, 0}}; }, "a move from page -1");
  refuse_plan([&](StepPlan& p) { p.moves = {{KvClass::kGlobal, 0, global_ids_}}; }, "a move from page 0");
  refuse_plan([](StepPlan& p) { p.spills = {{KvClass::kGlobal, 0, 0}}; }, "a spill from page 0");
  refuse_plan([](StepPlan& p) { p.returns = {{KvClass::kGlobal, 0, 0}}; }, "a return from page 0 of 0");

  EXPECT_EQ(Forward(Plan({Chunk(0, 10)})), good) << "a refused plan leaves nothing behind";
}

TEST_F(ModelRunnerTest, ARefusedPlanLeavesTheTablesAlone) {
  const std::vector<float> whole = Forward(Plan({Chunk(0, 60)}));
  const auto next = [&](int32_t position, int32_t count) {
    StepPlan plan = Plan({Chunk(position, count)});  // of which the slot's table has all but the pages appended
    plan.chunks[0].global_first = 1;
    ++plan.chunks[0].global_pages.begin;
    return plan;
  };
  StepPlan bad = next(60, 10);
  bad.updates = {{0, 0, 3}};
  bad.global_pages.back() = 5;
  bad.chunks[0].window_pages.end = 0;
  EXPECT_FALSE(runner_->Forward(bad).ok());
  const std::vector<float> with_deltas = Forward(next(60, 10));
  EXPECT_EQ(Forward(Plan({Chunk(60, 10)})), with_deltas);
  EXPECT_EQ(Forward(Plan({Chunk(0, 60)})), whole);
  StepPlan other = next(60, 10);
  other.chunks[0].sequence = 7;
  EXPECT_FALSE(runner_->Forward(other).ok()) << "a sequence new to a slot brings its whole table";
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
