#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/cpu/bf16.h"
#include "kernels/cpu/ops.h"
#include "tests/unit/kernels/isa_cases.h"

namespace hysparse::cpu {
namespace {

// Exact in either compute dtype.
std::vector<float> RandomBf16(size_t n, uint32_t seed, float scale = 1.0f) {
  std::vector<float> values = Random(n, seed, scale);
  for (float& value : values) value = Bf16ToFloat(FloatToBf16(value));
  return values;
}

struct Model {
  int hidden, width, experts, top;
};

class ExpertsTest : public testing::TestWithParam<IsaAndType> {
 protected:
  DType compute() const { return std::get<1>(GetParam()); }

  void Make(const Model& m) {
    model_ = m;
    gate_up_ = RandomBf16(size_t(m.experts) * 2 * m.width * m.hidden, 1, 0.2f);
    down_ = RandomBf16(size_t(m.experts) * m.hidden * m.width, 2, 0.2f);
    packed_.clear();
    gate_ptr_.clear();
    up_ptr_.clear();
    down_ptr_.clear();
    for (int e = 0; e < m.experts; ++e) {
      const float* gate = gate_up_.data() + size_t(e) * 2 * m.width * m.hidden;
      gate_ptr_.push_back(Pack(gate, m.width, m.hidden));
      up_ptr_.push_back(Pack(gate + size_t(m.width) * m.hidden, m.width, m.hidden));
      down_ptr_.push_back(Pack(down_.data() + size_t(e) * m.hidden * m.width, m.hidden, m.width));
    }
  }

  const PackedMatrix* Pack(const float* data, int rows, int cols) {
    const MatrixSource source{data, DType::kF32, rows, cols};
    auto packed = gemm_.Pack(std::span(&source, 1));
    EXPECT_TRUE(packed.ok()) << packed.status();
    packed_.push_back(std::move(*packed));
    return packed_.back().get();
  }

  // Tokens of random activations that go to random experts.
  void MakeTokens(int tokens, int used_experts) {
    x_ = RandomBf16(size_t(tokens) * model_.hidden, 3);
    x_bf16_.resize(x_.size());
    std::transform(x_.begin(), x_.end(), x_bf16_.begin(), FloatToBf16);
    ids_.clear();
    weights_ = RandomBf16(size_t(tokens) * model_.top, 4);
    std::mt19937 rng(5);
    std::vector<int32_t> all(used_experts);
    std::iota(all.begin(), all.end(), model_.experts - used_experts);
    for (int t = 0; t < tokens; ++t) {
      std::shuffle(all.begin(), all.end(), rng);
      std::vector<int32_t> chosen(all.begin(), all.begin() + model_.top);
      std::sort(chosen.begin(), chosen.end());
      ids_.insert(ids_.end(), chosen.begin(), chosen.end());
    }
  }

  std::vector<float> Run(int first, int tokens) {
    std::vector<float> out(size_t(tokens) * model_.hidden, 99.0f);
    ExpertsParams p;
    p.x = compute() == DType::kF32 ? static_cast<const void*>(x_.data() + size_t(first) * model_.hidden)
                                   : static_cast<const void*>(x_bf16_.data() + size_t(first) * model_.hidden);
    p.num_tokens = tokens;
    p.hidden = model_.hidden;
    p.width = model_.width;
    p.experts = model_.experts;
    p.top = model_.top;
    p.ids = ids_.data() + size_t(first) * model_.top;
    p.weights = weights_.data() + size_t(first) * model_.top;
    p.gate = gate_ptr_.data();
    p.up = up_ptr_.data();
    p.down = down_ptr_.data();
    p.out = out.data();
    StepLimits limits;
    limits.max_tokens = tokens;
    limits.hidden = model_.hidden;
    limits.expert_width = model_.width;
    limits.experts_per_token = model_.top;
    std::vector<std::byte> workspace(ExpertsWorkspaceBytes(limits, compute()));
    OpContext ctx;
    ctx.workspace = workspace.data();
    ctx.workspace_bytes = workspace.size();
    Experts(machine_, gemm_, compute(), ctx, p);
    return out;
  }

  std::vector<double> Naive(int t) const {
    const Model& m = model_;
    std::vector<double> out(m.hidden);
    for (int j = 0; j < m.top; ++j) {
      const int e = ids_[size_t(t) * m.top + j];
      std::vector<double> inner(2 * m.width);
      for (int i = 0; i < 2 * m.width; ++i) {
        for (int k = 0; k < m.hidden; ++k) {
          inner[i] += double{gate_up_[(size_t(e) * 2 * m.width + i) * m.hidden + k]} * x_[size_t(t) * m.hidden + k];
        }
      }
      for (int i = 0; i < m.width; ++i) {
        inner[i] = inner[i] / (1 + std::exp(-inner[i])) * inner[m.width + i];
        if (compute() == DType::kBF16) inner[i] = Bf16ToFloat(FloatToBf16(static_cast<float>(inner[i])));
      }
      for (int h = 0; h < m.hidden; ++h) {
        double sum = 0;
        for (int i = 0; i < m.width; ++i) sum += inner[i] * down_[(size_t(e) * m.hidden + h) * m.width + i];
        out[h] += sum * weights_[size_t(t) * m.top + j];
      }
    }
    return out;
  }

  ThreadPool pool_{3};
  GemmEngine gemm_{pool_, std::get<0>(GetParam()), compute()};
  const Machine machine_{pool_, RowOpsFor(std::get<0>(GetParam()))};
  Model model_{};
  std::vector<float> gate_up_, down_, x_, weights_;
  std::vector<uint16_t> x_bf16_;
  std::vector<int32_t> ids_;
  std::vector<std::unique_ptr<PanelMatrix>> packed_;
  std::vector<const PackedMatrix*> gate_ptr_, up_ptr_, down_ptr_;
};

TEST_P(ExpertsTest, AgreesWithTheFormula) {
  for (const Model m : {Model{64, 32, 16, 4}, {40, 24, 5, 5}, {33, 7, 3, 1}}) {
    Make(m);
    for (const int tokens : {1, 3, 50}) {
      MakeTokens(tokens, m.experts);
      const std::vector<float> out = Run(0, tokens);
      // A bf16 intermediate on the edge of rounding may fall the other way.
      const double tolerance = compute() == DType::kF32 ? 3e-6 : 1e-2;
      for (int t = 0; t < tokens; ++t) {
        const std::vector<double> expected = Naive(t);
        for (int h = 0; h < m.hidden; ++h) {
          ASSERT_NEAR(out[size_t(t) * m.hidden + h], expected[h], tolerance * (1 + std::abs(expected[h])));
        }
      }
    }
  }
}

TEST_P(ExpertsTest, ATokenDependsOnNothingElse) {
  Make({64, 32, 16, 4});
  constexpr int kTokens = 90;
  MakeTokens(kTokens, 6);  // crowded experts: every kind of tile
  const std::vector<float> all = Run(0, kTokens);
  for (const int count : {1, 2, 17, 40}) {
    for (int first = 0; first + count <= kTokens; first += 13) {
      const std::vector<float> part = Run(first, count);
      ASSERT_EQ(std::memcmp(part.data(), &all[size_t(first) * 64], part.size() * 4), 0) << first << " + " << count;
    }
  }
}

TEST_P(ExpertsTest, ManyExpertsAndManyTokens) {
  Make({32, 8, 200, 8});
  constexpr int kTokens = 1100;  // more than one pass of slots
  MakeTokens(kTokens, 200);
  const std::vector<float> all = Run(0, kTokens);
  for (int t = 0; t < kTokens; t += 103) {
    const std::vector<float> one = Run(t, 1);
    ASSERT_EQ(std::memcmp(one.data(), &all[size_t(t) * 32], one.size() * 4), 0) << t;
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, ExpertsTest, EachIsaAndType(), IsaAndTypeName);

}  // namespace
}  // namespace hysparse::cpu
