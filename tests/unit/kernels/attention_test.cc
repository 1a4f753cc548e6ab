// The attention ops against the spec's formulas in float64, on every instruction set of this machine.
#include "kernels/cpu/attention/attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/unit/kernels/attention_test_util.h"

namespace hysparse::cpu {
namespace {

struct Worst {
  double dense = 0, window = 0, sparse = 0;  // absolute, values being of unit variance
  double slack = 0;                          // log score of the best block left out, less the worst one taken
};

// Compares the tokens of `out` with the reference, every `step`-th and the last.
Worst Compare(const Shape& shape, DType query_dtype, const Inputs& in, const Outputs& out,
              const std::vector<float>& sinks, int step) {
  Worst worst;
  const float* sink = shape.sink ? sinks.data() : nullptr;
  auto error = [&](const std::vector<float>& got, int token, int head, const std::vector<double>& expected) {
    double most = 0;
    for (int e = 0; e < shape.v_dim; ++e) {
      const float x = got[static_cast<size_t>((token * shape.heads + head) * shape.v_dim + e)];
      const double difference = std::abs(x - expected[static_cast<size_t>(e)]);
      most = difference <= most ? most : difference;  // NaN is kept
    }
    return most;
  };
  for (int token = 0; token < in.length; ++token) {
    if (token % step != 0 && token != in.length - 1) continue;
    for (int g = 0; g < shape.groups; ++g) {
      const int blocks = token / shape.block + 1;
      const size_t row = static_cast<size_t>(token * shape.groups + g);
      const int32_t* ids = out.ids.data() + row * static_cast<size_t>(shape.top);
      EXPECT_EQ(out.counts[row], std::min(blocks, shape.top));
      const std::set<int> chosen(ids, ids + out.counts[row]);
      EXPECT_TRUE(std::is_sorted(ids, ids + out.counts[row]));
      EXPECT_EQ(chosen.size(), static_cast<size_t>(out.counts[row]));
      EXPECT_EQ(std::count(ids, ids + shape.top, -1), shape.top - out.counts[row]);
      std::vector<double> score(static_cast<size_t>(blocks), -std::numeric_limits<double>::infinity());
      for (int h = g * shape.group(); h < (g + 1) * shape.group(); ++h) {
        const ReferenceRow dense = Reference(shape, query_dtype, in, token, h, sink, [](int) { return true; });
        for (int i = 0; i <= token; ++i) {
          double& best = score[static_cast<size_t>(i / shape.block)];
          best = std::max(best, dense.logit[static_cast<size_t>(i)] - dense.lse);
        }
        worst.dense = std::max(worst.dense, error(out.dense, token, h, dense.out));
        const auto near =
            Reference(shape, query_dtype, in, token, h, sink, [&](int i) { return i > token - shape.window; });
        worst.window = std::max(worst.window, error(out.window, token, h, near.out));
        const auto far =
            Reference(shape, query_dtype, in, token, h, sink, [&](int i) { return chosen.contains(i / shape.block); });
        worst.sparse = std::max(worst.sparse, error(out.sparse, token, h, far.out));
      }
      double taken = std::numeric_limits<double>::infinity(), left = -taken;
      for (int b = 0; b < blocks; ++b) {
        double& side = chosen.contains(b) ? taken : left;
        side = chosen.contains(b) ? std::min(side, score[static_cast<size_t>(b)])
                                  : std::max(side, score[static_cast<size_t>(b)]);
      }
      worst.slack = std::max(worst.slack, left - taken);
    }
  }
  return worst;
}

class AttentionTest : public testing::TestWithParam<std::tuple<Level, DType>> {
 protected:
  Level level() const { return std::get<0>(GetParam()); }
  DType dtype() const { return std::get<1>(GetParam()); }
  // Whether probabilities stay fp32.
  bool exact() const { return QueryDType(level(), dtype()) == DType::kF32; }

  void Check(Shape shape, int length, int step) {
    SCOPED_TRACE(testing::Message() << "heads " << shape.heads << "/" << shape.groups << " dims " << shape.qk_dim << "/"
                                    << shape.v_dim << " page " << shape.page << " block " << shape.block << " window "
                                    << shape.window << " length " << length);
    shape.dtype = dtype();
    Runner runner(level(), 2, shape);
    const std::vector<Inputs> inputs = {Inputs(shape, length, 5)};
    const Outputs out = runner.Run(inputs, InChunks(length, length))[0];
    const Worst worst = Compare(shape, QueryDType(level(), dtype()), inputs[0], out, runner.sink(), step);
    const double allowed = exact() ? 1e-5 : 1e-2;
    EXPECT_LE(worst.dense, allowed);
    EXPECT_LE(worst.window, allowed);
    EXPECT_LE(worst.sparse, allowed);
    EXPECT_LE(worst.slack, 1e-4);
  }
};

TEST_P(AttentionTest, PromptLengths) {
  for (int length : {1, 63, 64, 65, 127, 128, 129, 300, 700}) Check(Shape{}, length, 7);
}

TEST_P(AttentionTest, HeadGroupsAndDims) {
  for (auto [heads, groups] : {std::pair{2, 2}, {3, 1}, {9, 3}, {8, 2}, {16, 1}, {40, 1}}) {
    Check({.heads = heads, .groups = groups}, 150, 11);
  }
  for (auto [d, e] : {std::pair{16, 24}, {24, 16}, {64, 64}, {96, 64}, {192, 128}, {33, 17}, {1, 1}, {256, 256}}) {
    Check({.qk_dim = d, .v_dim = e}, 130, 23);
  }
}

TEST_P(AttentionTest, PagesBlocksAndWindows) {
  for (int page : {8, 16, 32, 64, 128, 5}) Check({.page = page, .window_page = page}, 200, 13);
  for (auto [block, top] : {std::pair{8, 4}, {32, 3}, {128, 2}, {16, 7}, {48, 2}, {64, 1}, {640, 1}}) {
    Check({.block = block, .top = top}, 700, 37);
  }
  for (int window : {1, 16, 64, 100, 128, 600}) Check({.window_page = 16, .window = window}, 700, 41);
}

TEST_P(AttentionTest, WithoutSinks) { Check({.sink = false}, 300, 7); }

// Values, probabilities and scores of very different sizes: the softmax statistics must not overflow or vanish.
TEST_P(AttentionTest, LargeLogits) {
  Shape shape{.heads = 3, .groups = 1, .block = 8, .dtype = dtype()};
  Runner runner(level(), 1, shape);
  std::vector<Inputs> inputs = {Inputs(shape, 260, 3)};
  for (float& x : inputs[0].q) x *= 40.0f;
  for (size_t h = 0; h < 3; ++h) inputs[0].q[h * 16] = 0.0f;
  const Outputs out = runner.Run(inputs, InChunks(260, 260))[0];
  const Worst worst = Compare(shape, QueryDType(level(), dtype()), inputs[0], out, runner.sink(), 9);
  // fp32 logits near 1,000 carry errors near 1e-4.
  EXPECT_LE(worst.dense, exact() ? 1e-3 : 2e-2);
  EXPECT_LE(worst.sparse, exact() ? 1e-3 : 2e-2);
  EXPECT_LE(worst.window, exact() ? 1e-3 : 2e-2);
  EXPECT_LE(worst.slack, 1e-3);
}

// Equal keys give equal scores in every full block, so the lowest blocks win; the last block is the partial one.
TEST_P(AttentionTest, TiesGoToTheLowerBlock) {
  Shape shape{.heads = 4, .groups = 2, .block = 64, .top = 3, .dtype = dtype()};
  Runner runner(level(), 2, shape);
  std::vector<Inputs> inputs = {Inputs(shape, 700, 3)};
  for (size_t i = 32; i < inputs[0].k.size(); ++i) inputs[0].k[i] = inputs[0].k[i % 32];
  const Outputs out = runner.Run(inputs, InChunks(700, 700))[0];
  for (int token = 192; token < 700; ++token) {
    for (int g = 0; g < 2; ++g) {
      const int32_t* ids = out.ids.data() + (token * 2 + g) * 3;
      ASSERT_THAT(std::vector<int32_t>(ids, ids + 3), testing::ElementsAre(0, 1, 2)) << token;
    }
  }
}

// A sequence whose window class holds nothing before some position sees what there is, whatever its chunks and its
// neighbours are.
TEST_P(AttentionTest, WindowsBeginAtAFirstKey) {
  for (const int window : {16, 100, 600}) {
    const Shape shape{.window = window, .dtype = dtype()};
    const std::vector<Inputs> inputs = {Inputs(shape, 700, 1), Inputs(shape, 650, 2)};
    const std::vector<int> begin = {37, 520};
    std::vector<std::vector<Chunk>> steps;
    for (int at = 0; at < 663; at += 60) {
      steps.push_back({{0, std::min(60, 663 - at)}});
      if (at < 130) steps.back().push_back({1, std::min(60, 130 - at)});
    }
    Runner runner(level(), 2, shape);
    runner.BeginAt(begin);
    const std::vector<Outputs> out = runner.Run(inputs, steps);
    EXPECT_EQ(runner.Run(inputs, {{{1, 130}, {0, 663}}}), out);
    double worst = 0;
    for (size_t s = 0; s < 2; ++s) {
      for (int token = begin[s]; token < inputs[s].length; token += 13) {
        const auto near = Reference(shape, QueryDType(level(), dtype()), inputs[s], token, 3, runner.sink().data(),
                                    [&](int i) { return i > token - window && i >= begin[s]; });
        for (int e = 0; e < shape.v_dim; ++e) {
          const float x = out[s].window[static_cast<size_t>((token * shape.heads + 3) * shape.v_dim + e)];
          const double difference = std::abs(x - near.out[static_cast<size_t>(e)]);
          worst = difference <= worst ? worst : difference;
        }
      }
    }
    EXPECT_LE(worst, exact() ? 1e-5 : 1e-2) << window;
  }
}

INSTANTIATE_TEST_SUITE_P(All, AttentionTest,
                         testing::Combine(testing::ValuesIn(AllLevels()), testing::Values(DType::kF32, DType::kBF16)),
                         [](const auto& info) {
                           return LevelName(std::get<0>(info.param)) + "_" + Name(std::get<1>(info.param));
                         });

// The portable kernels are slow: a few small shapes.
class PortableAttentionTest : public AttentionTest {};

TEST_P(PortableAttentionTest, SmallShapes) {
  Check({.heads = 3, .groups = 1, .block = 16, .window = 16}, 66, 5);
  Check({.heads = 2, .groups = 2, .qk_dim = 24, .v_dim = 17, .page = 8, .block = 8, .window = 64}, 130, 43);
  Check({.heads = 1, .groups = 1, .qk_dim = 4, .v_dim = 4, .top = 2}, 600, 599);
}

INSTANTIATE_TEST_SUITE_P(All, PortableAttentionTest,
                         testing::Combine(testing::Values(Level()), testing::Values(DType::kF32, DType::kBF16)),
                         [](const auto& info) { return Name(std::get<1>(info.param)); });

}  // namespace
}  // namespace hysparse::cpu
