// Rebuilding window pages behind a cached prefix: results are those of a full recompute, to the bit, and rows that
// nothing needs are not computed.
#include "engine/model/rebuild.h"

#include <cmath>
#include <cstring>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/unit/model/model_folder.h"
#include "tests/unit/model/test_sequence.h"

namespace hysparse {
namespace {

using testing::ElementsAre;

constexpr int32_t kLength = 200, kPrefix = 128;

// Counts the rows of each layer, and the gathers that shrinking a batch takes. No window key may lie before the first
// page that its sequence holds.
class CountingBackend : public cpu::CpuBackend {
 public:
  CountingBackend(DType dtype, cpu::CpuIsa isa) : CpuBackend(dtype, 2, isa) {}
  void KvWrite(const OpContext& ctx, const KvWriteParams& p) override {
    rows.push_back(p.batch.num_tokens);
    CpuBackend::KvWrite(ctx, p);
  }
  void WindowAttention(const OpContext& ctx, const WindowAttentionParams& p) override {
    for (int32_t t = 0; t < p.batch.num_tokens; ++t) {
      const int32_t s = p.batch.sequence[t];
      const int32_t from = std::max(p.batch.position[t] - p.window + 1, p.first_key != nullptr ? p.first_key[s] : 0);
      EXPECT_GE(std::max(0, from) / p.kv.page_tokens, p.kv.first_page[s]);
    }
    CpuBackend::WindowAttention(ctx, p);
  }
  void GatherRows(const OpContext& ctx, const GatherRowsParams& p) override {
    ++gathers;
    CpuBackend::GatherRows(ctx, p);
  }
  void Embed(const OpContext& ctx, const EmbedParams& p) override {
    rows.clear();
    gathers = 0;
    CpuBackend::Embed(ctx, p);
  }
  std::vector<int32_t> rows;  // of the last step, by layer
  int gathers = 0;
};

// A model with all kinds of layers, window layers first and last in it or full ones, and a full run of a prompt.
class RebuildTest : public testing::TestWithParam<DType> {
 protected:
  void Load(std::vector<int> pattern, int32_t window) {
    nlohmann::json config = TinyConfig();
    std::vector<int> moe(pattern.size(), 0);
    moe[1] = moe.back() = 1;
    config.update({{"num_hidden_layers", pattern.size()},
                   {"hybrid_layer_pattern", pattern},
                   {"sliding_window", window},
                   {"moe_layer_freq", moe},
                   {"n_routed_experts", 4},
                   {"num_experts_per_tok", 2},
                   {"moe_intermediate_size", 16},
                   {"n_shared_experts", 1}});
    folder_.WriteConfig(config);
    spec_ = *ReadModelSpec(folder_.path());
    need_ = RebuildRows(spec_);
    backend_ = std::make_unique<CountingBackend>(GetParam(), *cpu::DetectCpuIsa());
    weights_ = *MakeRandomWeights(spec_, 5, *backend_);
    layout_ = MakeKvLayout(spec_, GetParam());
    RunnerOptions options;
    options.limits = {.max_tokens = kLength, .max_sequences = 3, .max_context = 256};
    options.arena = *MakeArenaLayout(layout_, int64_t{1} << 22);
    runner_ = *ModelRunner::Make(spec_, weights_, *backend_, options);
    pages_ = std::make_unique<TestPages>(options.arena);
    cached_ = {};
    cached_.tokens = TestTokens(kLength, 1, spec_.vocab);
    expected_ = Run(cached_, kLength);
    ASSERT_EQ(expected_.size(), static_cast<size_t>((kLength - kPrefix) * spec_.vocab));
    for (const float logit : expected_) ASSERT_TRUE(std::isfinite(logit));
  }

  // The rest of the sequence in steps of `chunk` tokens; logits of the tokens behind the prefix.
  std::vector<float> Run(TestSequence& s, int32_t chunk) {
    std::vector<float> logits;
    while (s.done < kLength) {
      StepPlan plan;
      AddChunk(s, std::min(chunk, kLength - s.done), kPrefix, layout_, *pages_, plan);
      const std::vector<float> rows = RunStep(*runner_, plan, spec_.vocab);
      logits.insert(logits.end(), rows.begin(), rows.end());
    }
    return logits;
  }

  // A sequence of the same tokens that shares the prefix's global pages and begins at `start`. Its window pages hold
  // what another sequence left there.
  TestSequence Rebuild(int32_t start) {
    TestSequence other{.id = 2, .slot = 2, .tokens = TestTokens(kLength, 7, spec_.vocab)};
    Run(other, kLength);
    for (const int32_t page : other.window) pages_->Put(KvClass::kWindow, page);
    for (const int32_t page : other.global) pages_->Put(KvClass::kGlobal, page);
    TestSequence s{.id = ++rebuilds_ + 10, .slot = 1, .tokens = cached_.tokens};
    s.done = s.window_from = start;
    s.write_from = kPrefix;
    s.global.assign(cached_.global.begin(), cached_.global.begin() + kPrefix / layout_.global.page_tokens);
    return s;
  }

  std::vector<std::byte> PrefixBytes() const {
    std::vector<std::byte> bytes;
    for (size_t l = 0; l < spec_.layers.size(); ++l) {
      const PagedKv kv = runner_->pool().View(l);
      for (int32_t p = 0; layout_.layers[l].kv_class == KvClass::kGlobal && p * kv.page_tokens < kPrefix; ++p) {
        const std::byte* page = kv.base + cached_.global[static_cast<size_t>(p)] * kv.page_stride;
        bytes.insert(bytes.end(), page, page + 2 * kv.v_offset);  // K and V are of one size here
      }
    }
    return bytes;
  }

  int32_t First(int32_t too_few = 0) const { return kPrefix - static_cast<int32_t>(need_[0]) + too_few; }
  // Rows that the layers compute of a chunk at [begin, end).
  std::vector<int32_t> Rows(int32_t begin, int32_t end) const {
    std::vector<int32_t> rows;
    for (size_t l = 0; l < spec_.layers.size(); ++l)
      rows.push_back(end - std::clamp(kPrefix - static_cast<int32_t>(need_[l]), begin, std::max(begin, end)));
    return rows;
  }

  ModelFolder folder_;
  ModelSpec spec_;
  std::vector<int64_t> need_;
  std::unique_ptr<CountingBackend> backend_;
  Weights weights_;
  KvLayout layout_;
  std::unique_ptr<ModelRunner> runner_;
  std::unique_ptr<TestPages> pages_;
  TestSequence cached_;
  std::vector<float> expected_;
  int64_t rebuilds_ = 0;
};

const std::vector<int> kFullFirst = {0, 2, 1, 2, 0, 2, 1}, kFullLast = {1, 0, 2, 1, 2, 0};

TEST_P(RebuildTest, EachWindowLayerNeedsAWindowLessOneMore) {
  Load({0, 2, 1, 0, 2}, 16);
  EXPECT_THAT(need_, ElementsAre(45, 45, 30, 15, 15, 0));
}

TEST_P(RebuildTest, GivesTheBitsOfAFullRecompute) {
  for (const auto& pattern : {kFullFirst, kFullLast}) {
    for (const int32_t window : {4, 16}) {
      Load(pattern, window);
      const std::vector<std::byte> prefix = PrefixBytes();
      // The bound itself, earlier, and so early that whole chunks hold nothing that is needed.
      for (const int32_t start : {First(), First() - 1, First() - 30}) {
        for (const int32_t chunk : {kLength - start, 61, 20, 7, 1}) {
          TestSequence s = Rebuild(start);
          EXPECT_EQ(Run(s, chunk), expected_) << window << " from " << start << " by " << chunk;
          for (const int32_t page : s.window) pages_->Put(KvClass::kWindow, page);
          for (size_t p = kPrefix / 64; p < s.global.size(); ++p) pages_->Put(KvClass::kGlobal, s.global[p]);
        }
      }
      EXPECT_EQ(PrefixBytes(), prefix);
    }
  }
}

TEST_P(RebuildTest, OneTokenLessDoesNot) {
  Load(kFullFirst, 4);
  const std::vector<std::byte> prefix = PrefixBytes();
  TestSequence s = Rebuild(First(1));
  const std::vector<float> logits = Run(s, kLength);
  ASSERT_EQ(logits.size(), expected_.size());
  const size_t vocab = static_cast<size_t>(spec_.vocab);
  EXPECT_NE(std::memcmp(logits.data(), expected_.data(), vocab * sizeof(float)), 0);
  EXPECT_EQ(PrefixBytes(), prefix) << "what is cached is not written, even if it comes out otherwise";
}

TEST_P(RebuildTest, RowsLeaveWhereNothingNeedsThem) {
  for (const auto& pattern : {kFullFirst, kFullLast}) {
    Load(pattern, 16);
    TestSequence s = Rebuild(First() - 5);
    StepPlan plan;
    AddChunk(s, 3, kPrefix, layout_, *pages_, plan);
    backend_->rows.clear();
    RunStep(*runner_, plan, spec_.vocab);
    EXPECT_THAT(backend_->rows, testing::IsEmpty()) << "rows that no layer needs";
    for (const int32_t count : {40, kPrefix - s.done - 40, 30}) {
      plan = {};
      const int32_t begin = s.done;
      AddChunk(s, count, kPrefix, layout_, *pages_, plan);
      RunStep(*runner_, plan, spec_.vocab);
      std::vector<int32_t> rows = Rows(begin, begin + count);
      while (rows.back() == 0) rows.pop_back();
      EXPECT_EQ(backend_->rows, rows) << begin;
    }
  }
}

TEST_P(RebuildTest, SharesAStepWithOthers) {
  Load(kFullFirst, 16);
  TestSequence alone{.id = 5, .slot = 2, .tokens = TestTokens(kLength, 3, spec_.vocab)};
  const std::vector<float> other_expected = Run(alone, 50);
  TestSequence s = Rebuild(First()), other{.id = 6, .slot = 0, .tokens = alone.tokens};
  std::vector<float> logits, other_logits;
  StepPlan plan;
  AddChunk(other, 110, kPrefix, layout_, *pages_, plan);
  RunStep(*runner_, plan, spec_.vocab);
  while (s.done < kLength) {
    plan = {};
    const int32_t begin = s.done;
    AddChunk(other, std::min(10, kLength - other.done), kPrefix, layout_, *pages_, plan);
    const int32_t others = plan.num_tokens();
    const auto other_rows = static_cast<int64_t>(plan.rows.size()) * spec_.vocab;
    AddChunk(s, std::min(23, kLength - s.done), kPrefix, layout_, *pages_, plan);
    const std::vector<float> rows = RunStep(*runner_, plan, spec_.vocab);
    other_logits.insert(other_logits.end(), rows.begin(), rows.begin() + other_rows);
    logits.insert(logits.end(), rows.begin() + other_rows, rows.end());
    std::vector<int32_t> expected = Rows(begin, s.done);
    for (int32_t& n : expected) n += others;
    EXPECT_EQ(backend_->rows, expected);
  }
  EXPECT_EQ(logits, expected_);
  ASSERT_EQ(other_logits.size() / static_cast<size_t>(spec_.vocab), static_cast<size_t>(other.done - kPrefix));
  EXPECT_EQ(other_logits, std::vector<float>(other_expected.begin(),
                                             other_expected.begin() + static_cast<int64_t>(other_logits.size())));
}

TEST_P(RebuildTest, StepsWithoutOneGatherNothing) {
  Load(kFullFirst, 16);
  TestSequence s{.id = 9, .slot = 1, .tokens = cached_.tokens};
  StepPlan plan;
  AddChunk(s, 100, kLength, layout_, *pages_, plan);
  RunStep(*runner_, plan, spec_.vocab);
  EXPECT_EQ(backend_->gathers, 0);
  EXPECT_EQ(backend_->rows, std::vector<int32_t>(spec_.layers.size(), 100));
}

INSTANTIATE_TEST_SUITE_P(All, RebuildTest, testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& info) { return Name(info.param); });

}  // namespace
}  // namespace hysparse
