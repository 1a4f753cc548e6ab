// One rank's steps: pages that are spilled, moved and returned keep their bits, and tokens still in flight give what
// known ones do.
#include "engine/run/worker.h"

#include <cstring>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/model/model_folder.h"
#include "tests/unit/model/test_sequence.h"

namespace hysparse {
namespace {

using testing::HasSubstr;

class WorkerTest : public testing::TestWithParam<DType> {
 protected:
  WorkerTest() {
    nlohmann::json config = TinyConfig();
    config.update({{"hybrid_layer_pattern", {0, 2, 1, 0}}});
    folder_.WriteConfig(config);
    spec_ = *ReadModelSpec(folder_.path());
    backend_ = *MakeCpuBackend({.compute_dtype = GetParam(), .threads = 2});
    weights_ = *MakeRandomWeights(spec_, 5, *backend_);
    layout_ = MakeKvLayout(spec_, GetParam());
    options_.limits = {.max_tokens = 128, .max_sequences = 3, .max_context = 256};
    options_.arena = *MakeArenaLayout(layout_, 1 << 20);
    options_.host_arena = *MakeArenaLayout(layout_, 1 << 19);
    pages_ = std::make_unique<TestPages>(options_.arena);
    runner_ = MakeRunner();
    plain_.tokens = TestTokens(200, 1, spec_.vocab);
    Step(plain_, 100, 100);
    for (int i = 0; i < 10; ++i) Append(Step(plain_, 1, 100), expected_);
  }

  std::unique_ptr<ModelRunner> MakeRunner() const { return *ModelRunner::Make(spec_, weights_, *backend_, options_); }
  static void Append(const std::vector<float>& from, std::vector<float>& to) {
    to.insert(to.end(), from.begin(), from.end());
  }
  // The next tokens of a sequence, in a step with these copies and table updates.
  std::vector<float> Step(TestSequence& s, int32_t count, int32_t rows_from, StepPlan plan = {}) {
    AddChunk(s, count, rows_from, layout_, *pages_, plan);
    return RunStep(*runner_, plan, spec_.vocab);
  }
  // Another sequence writes over every page that is free.
  void Overwrite() {
    TestSequence s{.id = 99, .slot = 2, .tokens = TestTokens(200, 8, spec_.vocab)};
    Step(s, 100, 200);
    Step(s, 100, 200);
    for (const int32_t page : s.global) pages_->Put(KvClass::kGlobal, page);
    for (const int32_t page : s.window) pages_->Put(KvClass::kWindow, page);
  }
  TestSequence Started() {
    TestSequence s{.id = 4, .slot = 1, .tokens = plain_.tokens};
    Step(s, 100, 200);
    return s;
  }
  std::vector<float> Continue(TestSequence& s) {
    std::vector<float> logits;
    for (int i = 0; i < 10; ++i) Append(Step(s, 1, 0), logits);
    return logits;
  }
  // Gives the sequence other pages; how each page is copied goes to `copies`.
  void Exchange(TestSequence& s, std::vector<PageCopy>& copies) {
    for (const KvClass kv_class : {KvClass::kGlobal, KvClass::kWindow}) {
      std::vector<int32_t>& held = kv_class == KvClass::kGlobal ? s.global : s.window;
      const std::vector<int32_t> before = held;
      for (int32_t& page : held) copies.push_back({kv_class, page, 0}), page = pages_->Take(kv_class);
      for (size_t i = 0; i < held.size(); ++i) {
        copies[copies.size() - held.size() + i].to = held[i];
        pages_->Put(kv_class, before[i]);
      }
    }
  }

  ModelFolder folder_;
  ModelSpec spec_;
  std::unique_ptr<Backend> backend_;
  Weights weights_;
  KvLayout layout_;
  RunnerOptions options_;
  std::unique_ptr<TestPages> pages_;
  std::unique_ptr<ModelRunner> runner_;
  TestSequence plain_;
  std::vector<float> expected_;  // logits of positions 100 to 109
};

TEST_P(WorkerTest, SpilledPagesComeBackUnchanged) {
  TestSequence s = Started();
  StepPlan spill, back;
  Exchange(s, spill.spills);
  // Global pages go to the end of the host arena, window pages to its beginning, not one beside the other.
  for (PageCopy& copy : spill.spills) {
    const auto at = 2 * static_cast<int32_t>(back.returns.size());
    const int32_t last = options_.host_arena.page_ids(copy.kv_class) - 1;
    const int32_t host = copy.kv_class == KvClass::kGlobal ? last - at : at;
    back.returns.push_back({copy.kv_class, host, copy.to});
    copy.to = host;
  }
  RunStep(*runner_, spill, spec_.vocab);
  Overwrite();
  RunStep(*runner_, back, spec_.vocab);
  s.slot = 0;
  s.planned = 0;
  EXPECT_EQ(Continue(s), expected_);
}

TEST_P(WorkerTest, MovedPagesAreReadWhereTheyAre) {
  TestSequence s = Started();
  StepPlan moves;
  Exchange(s, moves.moves);
  for (size_t i = 0; i < s.global.size(); ++i) moves.updates.push_back({s.slot, static_cast<int32_t>(i), s.global[i]});
  std::vector<float> logits = Step(s, 1, 0, moves);  // in one step with the chunk that reads them
  Overwrite();
  StepPlan again;
  Exchange(s, again.moves);
  for (size_t i = 0; i < s.global.size(); ++i) again.updates.push_back({s.slot, static_cast<int32_t>(i), s.global[i]});
  RunStep(*runner_, again, spec_.vocab);  // copies alone
  Overwrite();
  for (int i = 1; i < 10; ++i) Append(Step(s, 1, 0), logits);
  EXPECT_EQ(logits, expected_);
}

TEST_P(WorkerTest, CopiesRunInOrder) {
  TestSequence s = Started();
  // A rotation by way of the host: each list reads what the one before it left.
  ASSERT_EQ(s.global.size(), 2u);
  StepPlan plan;
  plan.spills = {{KvClass::kGlobal, s.global[0], 3}};
  plan.moves = {{KvClass::kGlobal, s.global[1], pages_->Take(KvClass::kGlobal)}};
  plan.returns = {{KvClass::kGlobal, 3, s.global[1]}};
  s.global = {s.global[1], plan.moves[0].to};
  RunStep(*runner_, plan, spec_.vocab);
  Overwrite();
  s.planned = 0;
  EXPECT_EQ(Continue(s), expected_);
}

// A row with every penalty, so that what the history says counts.
SampleRow Draw(int32_t position) {
  SampleRow row;
  row.temperature = 0.9f;
  row.presence_penalty = 0.7f;
  row.frequency_penalty = 0.9f;
  row.repetition_penalty = 1.3f;
  row.seed = 5;
  row.position = static_cast<uint32_t>(position);
  row.want_logprob = true;
  return row;
}

struct Drawn {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  bool operator==(const Drawn&) const = default;
};

// Two sequences decode for 40 steps; `in_flight`: each step is planned before the one before it is known.
Drawn Decode(Worker& worker, const KvLayout& layout, TestPages pages, int32_t vocab, bool in_flight) {
  std::vector<TestSequence> sequences(2);
  std::vector<std::vector<TokenCount>> known(2);  // what a plan of now may know
  std::vector<int32_t> last = {-1, -1}, row_of = {-1, -1};
  Drawn drawn;
  for (int32_t i = 0; i < 2; ++i) {
    sequences[static_cast<size_t>(i)].id = sequences[static_cast<size_t>(i)].slot = i;
    sequences[static_cast<size_t>(i)].tokens = TestTokens(5 + i, i, vocab);
    for (const int32_t token : sequences[static_cast<size_t>(i)].tokens)
      known[static_cast<size_t>(i)].push_back({token, 1, 0});
  }
  const auto count = [&](size_t i, int32_t token) {
    for (TokenCount& entry : known[i]) {
      if (entry.token == token) return static_cast<void>(++entry.output);
    }
    known[i].push_back({token, 0, 1});
  };
  for (int step = 0; step < 40; ++step) {
    StepPlan plan;
    std::vector<int32_t> rows(2);
    for (const size_t i : step % 2 == 0 ? std::vector<size_t>{0, 1} : std::vector<size_t>{1, 0}) {
      TestSequence& s = sequences[i];
      if (step > 0) s.tokens.push_back(in_flight ? kSampledToken : last[i]);
      if (step > 0 && !in_flight) count(i, last[i]);
      AddChunk(s, static_cast<int32_t>(s.tokens.size()) - s.done, static_cast<int32_t>(s.tokens.size()) - 1, layout,
               pages, plan);
      if (step > 0 && in_flight) plan.chunks.back().input_row = row_of[i];
      rows[i] = plan.chunks.back().rows.begin;
      SampleRow& row = plan.rows.back() = Draw(s.done);
      row.history_begin = static_cast<int32_t>(plan.history.size());
      plan.history.insert(plan.history.end(), known[i].begin(), known[i].end());
      if (step > 0 && in_flight) plan.history.push_back({kSampledToken, 0, 1});
      row.history_end = static_cast<int32_t>(plan.history.size());
    }
    // The step before has ended by now: the next plan knows its tokens.
    for (size_t i = 0; i < 2 && step > 0 && in_flight; ++i) count(i, last[i]);
    const absl::StatusOr<StepResult> result = worker.Run(plan);
    EXPECT_TRUE(result.ok()) << result.status();
    if (!result.ok()) return drawn;
    for (size_t i = 0; i < 2; ++i) {
      last[i] = result->token[static_cast<size_t>(rows[i])];
      drawn.tokens.push_back(last[i]);
      drawn.logprobs.push_back(result->logprob[static_cast<size_t>(rows[i])]);
    }
    row_of = rows;
  }
  return drawn;
}

TEST_P(WorkerTest, TokensInFlightGiveWhatKnownOnesDo) {
  auto worker = *Worker::Make(MakeRunner(), spec_.vocab);
  const Drawn known = Decode(*worker, layout_, TestPages(options_.arena), spec_.vocab, false);
  ASSERT_EQ(known.tokens.size(), 80u);
  EXPECT_EQ(Decode(*worker, layout_, TestPages(options_.arena), spec_.vocab, true), known);
}

TEST_P(WorkerTest, RefusesTokensThatWereNotSampled) {
  auto worker = *Worker::Make(MakeRunner(), spec_.vocab);
  const auto plan = [&](int32_t input_row) {
    TestSequence s{.tokens = {3, 4, kSampledToken}};
    StepPlan plan;
    TestPages pages(options_.arena);
    if (input_row >= 0) {
      s.done = 2;
      AddChunk(s, 1, 0, layout_, pages, plan);
      plan.chunks[0].input_row = input_row;
    } else {
      AddChunk(s, 2, 1, layout_, pages, plan);
    }
    return plan;
  };
  StepPlan step = plan(-1);
  ASSERT_TRUE(worker->Run(step).ok());
  step = plan(1);
  const absl::Status status = worker->Run(step).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("row 1 of 1"));
  step = plan(0);
  EXPECT_TRUE(worker->Run(step).ok()) << "what a failed step would have given is undefined, but there";
  step = plan(0);
  step.tokens[0] = 7;
  EXPECT_FALSE(worker->Run(step).ok()) << "the token is known";
  step = plan(-1);
  step.tokens[1] = kSampledToken;
  EXPECT_FALSE(worker->Run(step).ok()) << "no row is named";
}

INSTANTIATE_TEST_SUITE_P(All, WorkerTest, testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& info) { return Name(info.param); });

TEST(ResolveSampledTokens, MergesCountsAndLeavesOtherRowsAlone) {
  StepPlan plan;
  plan.chunks.resize(3);
  plan.tokens = {kSampledToken, 8, kSampledToken};
  plan.rows.resize(3);
  plan.history = {{5, 1, 2}, {6, 0, 1}, {kSampledToken, 0, 1}, {6, 0, 1}, {5, 0, 1}, {kSampledToken, 0, 1}};
  for (int32_t i = 0; i < 3; ++i) {
    PlannedChunk& chunk = plan.chunks[static_cast<size_t>(i)];
    chunk.tokens = chunk.rows = {i, i + 1};
  }
  plan.chunks[0].input_row = 1;
  plan.chunks[2].input_row = 0;
  const auto history = [&](int32_t row, int32_t begin, int32_t end) {
    plan.rows[static_cast<size_t>(row)].history_begin = begin;
    plan.rows[static_cast<size_t>(row)].history_end = end;
  };
  history(0, 0, 3);
  history(1, 3, 4);
  history(2, 4, 6);
  ASSERT_TRUE(ResolveSampledTokens({9, 6}, plan).ok());
  EXPECT_THAT(plan.tokens, testing::ElementsAre(6, 8, 9));
  EXPECT_EQ(plan.rows[0].history_end, 2) << "one entry for token 6";
  EXPECT_EQ(plan.history[1].output, 2);
  EXPECT_EQ(plan.history[3].output, 1);
  EXPECT_EQ(plan.rows[2].history_end, 6);
  EXPECT_EQ(plan.history[5].token, 9);
  for (const PlannedChunk& chunk : plan.chunks) EXPECT_EQ(chunk.input_row, -1);
}

}  // namespace
}  // namespace hysparse
