#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/cpu/ops.h"
#include "tests/unit/kernels/isa_cases.h"

namespace hysparse::cpu {
namespace {

class RouterTest : public testing::TestWithParam<CpuIsa> {
 protected:
  void Route(const RouterParams& p) {
    OpContext ctx;
    ctx.workspace = workspace_.data();
    ctx.workspace_bytes = workspace_.size();
    Router(machine_, ctx, p);
  }

  ThreadPool pool_{3};
  const Machine machine_{pool_, RowOpsFor(GetParam())};
  std::vector<std::byte> workspace_ = std::vector<std::byte>(RouterWorkspaceBytes());
};

struct Choice {
  std::vector<int32_t> ids;
  std::vector<double> weights;
  double margin;  // between the last chosen and the first left out
};

Choice NaiveChoice(const RouterParams& p, int t) {
  std::vector<double> score(p.experts);
  for (int e = 0; e < p.experts; ++e) {
    for (int k = 0; k < p.hidden; ++k) {
      score[e] += double{p.x[size_t(t) * p.hidden + k]} * p.weight[size_t(e) * p.hidden + k];
    }
  }
  if (p.sigmoid) {
    for (double& s : score) s = 1.0 / (1.0 + std::exp(-s));
  } else {
    const double top = *std::max_element(score.begin(), score.end());
    double sum = 0;
    for (double& s : score) sum += s = std::exp(s - top);
    for (double& s : score) s /= sum;
  }
  const auto choice = [&](int e) { return score[e] + (p.bias == nullptr ? 0.0 : p.bias[e]); };
  std::vector<int32_t> order(p.experts);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return choice(a) > choice(b); });
  Choice c;
  c.margin = p.top < p.experts ? choice(order[p.top - 1]) - choice(order[p.top]) : 1.0;
  c.ids.assign(order.begin(), order.begin() + p.top);
  std::sort(c.ids.begin(), c.ids.end());
  double sum = 0;
  for (int e : c.ids) sum += score[e];
  for (int e : c.ids) c.weights.push_back((p.normalize ? score[e] / sum : score[e]) * p.routed_scale);
  return c;
}

TEST_P(RouterTest, AgreesWithTheFormula) {
  struct Case {
    int tokens, hidden, experts, top;
    bool sigmoid, bias, normalize;
  };
  for (const Case c : {Case{1, 64, 16, 4, true, true, true},
                       {5, 64, 16, 4, false, false, true},
                       {70, 33, 7, 3, true, false, false},
                       {35, 128, 130, 8, false, true, false},
                       {3, 50, 512, 8, true, true, true},
                       {2, 16, 4, 4, false, false, true},
                       {9, 20, 5, 1, true, true, true}}) {
    const std::vector<float> x = Random(size_t(c.tokens) * c.hidden, 1), bias = Random(c.experts, 3, 0.3f),
                             weight = Random(size_t(c.experts) * c.hidden, 2, 0.2f);
    std::vector<int32_t> ids(size_t(c.tokens) * c.top, -1);
    std::vector<float> weights(ids.size());
    RouterParams p;
    p.x = x.data();
    p.weight = weight.data();
    p.bias = c.bias ? bias.data() : nullptr;
    p.num_tokens = c.tokens;
    p.hidden = c.hidden;
    p.experts = c.experts;
    p.top = c.top;
    p.sigmoid = c.sigmoid;
    p.normalize = c.normalize;
    p.routed_scale = 2.5f;
    p.ids = ids.data();
    p.weights = weights.data();
    Route(p);
    int compared = 0;
    for (int t = 0; t < c.tokens; ++t) {
      const Choice expected = NaiveChoice(p, t);
      if (expected.margin < 1e-6) continue;  // fp32 may see a tie
      ++compared;
      for (int i = 0; i < c.top; ++i) {
        ASSERT_EQ(ids[size_t(t) * c.top + i], expected.ids[i]) << "token " << t;
        ASSERT_NEAR(weights[size_t(t) * c.top + i], expected.weights[i], 3e-6);
      }
    }
    EXPECT_GE(compared, c.tokens * 9 / 10);
  }
}

TEST_P(RouterTest, ATokenDependsOnNothingElse) {
  constexpr int kTokens = 67, kHidden = 96, kExperts = 37, kTop = 5;
  const std::vector<float> x = Random(kTokens * kHidden, 4), weight = Random(kExperts * kHidden, 5, 0.2f);
  RouterParams p;
  p.weight = weight.data();
  p.hidden = kHidden;
  p.experts = kExperts;
  p.top = kTop;
  std::vector<int32_t> ids(kTokens * kTop), one_ids(kTop);
  std::vector<float> weights(ids.size()), one_weights(kTop);
  p.x = x.data();
  p.num_tokens = kTokens;
  p.ids = ids.data();
  p.weights = weights.data();
  Route(p);
  p.num_tokens = 1;
  p.ids = one_ids.data();
  p.weights = one_weights.data();
  for (int t = 0; t < kTokens; ++t) {
    p.x = x.data() + t * kHidden;
    Route(p);
    for (int i = 0; i < kTop; ++i) {
      ASSERT_EQ(one_ids[i], ids[t * kTop + i]);
      ASSERT_EQ(one_weights[i], weights[t * kTop + i]);
    }
  }
}

TEST_P(RouterTest, TiesGoToTheLowerExpert) {
  const std::vector<float> x = {1.0f, 2.0f}, weight(12 * 2, 0.5f);
  std::vector<int32_t> ids(3);
  std::vector<float> weights(3);
  for (const bool sigmoid : {false, true}) {
    RouterParams p;
    p.x = x.data();
    p.weight = weight.data();
    p.num_tokens = 1;
    p.hidden = 2;
    p.experts = 12;
    p.top = 3;
    p.sigmoid = sigmoid;
    p.ids = ids.data();
    p.weights = weights.data();
    Route(p);
    EXPECT_EQ(ids, (std::vector<int32_t>{0, 1, 2}));
    for (float w : weights) EXPECT_FLOAT_EQ(w, 1.0f / 3);
    // The bias selects and does not weigh.
    std::vector<float> bias(12);
    bias[11] = bias[4] = 1.0f;
    p.bias = bias.data();
    Route(p);
    EXPECT_EQ(ids, (std::vector<int32_t>{0, 4, 11}));
    for (float w : weights) EXPECT_FLOAT_EQ(w, 1.0f / 3);
  }
}

TEST_P(RouterTest, NotANumberStillYieldsValidIds) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> x = {nan, 1.0f}, weight = Random(20 * 2, 6);
  std::vector<int32_t> ids(4, -1);
  std::vector<float> weights(4);
  RouterParams p;
  p.x = x.data();
  p.weight = weight.data();
  p.num_tokens = 1;
  p.hidden = 2;
  p.experts = 20;
  p.top = 4;
  p.ids = ids.data();
  p.weights = weights.data();
  Route(p);
  for (int i = 0; i < 4; ++i) {
    EXPECT_GE(ids[i], 0);
    EXPECT_LT(ids[i], 20);
    if (i > 0) {
      EXPECT_GT(ids[i], ids[i - 1]);
    }
  }
}

TEST_P(RouterTest, MoreTokensThanTheWorkspaceHolds) {
  constexpr int kExperts = 512, kTop = 2;
  const int tokens = static_cast<int>(RouterWorkspaceBytes() / 4 / kExperts) + 20;
  const std::vector<float> x = Random(size_t(tokens) * 4, 7), weight = Random(kExperts * 4, 8);
  std::vector<int32_t> ids(size_t(tokens) * kTop), one(kTop);
  std::vector<float> weights(ids.size()), one_weights(kTop);
  RouterParams p;
  p.x = x.data();
  p.weight = weight.data();
  p.num_tokens = tokens;
  p.hidden = 4;
  p.experts = kExperts;
  p.top = kTop;
  p.ids = ids.data();
  p.weights = weights.data();
  Route(p);
  p.num_tokens = 1;
  p.ids = one.data();
  p.weights = one_weights.data();
  for (int t = 0; t < tokens; t += 97) {
    p.x = x.data() + size_t(t) * 4;
    Route(p);
    ASSERT_TRUE(std::equal(one.begin(), one.end(), &ids[size_t(t) * kTop]));
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, RouterTest, EachIsa(), IsaCaseName);

}  // namespace
}  // namespace hysparse::cpu
