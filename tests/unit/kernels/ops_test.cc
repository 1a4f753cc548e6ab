#include "kernels/cpu/ops.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/cpu/bf16.h"
#include "tests/unit/kernels/isa_cases.h"

namespace hysparse::cpu {
namespace {

double Sigma(double x) { return 1.0 / (1.0 + std::exp(-x)); }

double UlpsApart(float actual, double exact) {
  const float near = static_cast<float>(exact);
  const double ulp = std::nextafter(std::abs(near), std::numeric_limits<float>::infinity()) - std::abs(near);
  return std::abs(actual - exact) / ulp;
}

class OpsTest : public testing::TestWithParam<CpuIsa> {
 protected:
  ThreadPool pool_{3};
  const RowOps& rows_ = RowOpsFor(GetParam());
  const Machine machine_{pool_, rows_};
};

TEST_P(OpsTest, SigmoidAndSoftmaxAreAccurate) {
  std::vector<float> x;
  for (float v = -87.0f; v < 87.0f; v += 0.0137f) x.push_back(v);
  std::vector<float> y = x;
  rows_.sigmoid(y.data(), static_cast<int>(y.size()));
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) worst = std::max(worst, UlpsApart(y[i], Sigma(x[i])));
  EXPECT_LE(worst, 3.0);

  // e^x itself, as the ratio of a softmax over (x, 0, ...): the denominator is common.
  worst = 0;
  for (float v = -80.0f; v < 0.0f; v += 0.0173f) {
    float pair[2] = {v, 0.0f};
    rows_.softmax(pair, 2);
    worst = std::max(worst, UlpsApart(pair[0], std::exp(double{v}) / (1.0 + std::exp(double{v}))));
  }
  EXPECT_LE(worst, 4.0);

  const float infinity = std::numeric_limits<float>::infinity();
  float edge[5] = {infinity, -infinity, 200.0f, -200.0f, std::nanf("")};
  rows_.sigmoid(edge, 5);
  EXPECT_EQ(edge[0], 1.0f);
  EXPECT_LE(edge[1], 1e-38f);
  EXPECT_EQ(edge[2], 1.0f);
  EXPECT_LE(edge[3], 1e-38f);
  EXPECT_TRUE(std::isnan(edge[4]));
}

TEST_P(OpsTest, AnglesAreRight) {
  for (const int n : {1, 3, 8, 13, 64}) {
    std::vector<float> inv_freq(n), cos(n), sin(n);
    for (int j = 0; j < n; ++j) inv_freq[j] = static_cast<float>(std::pow(10000.0, -j / 64.0));
    for (const double position : {0.0, 1.0, 2.0, 3.0, 5.0, 700.0, 131071.0, 1048575.0}) {
      rows_.rotation(position, inv_freq.data(), n, 1.25f, cos.data(), sin.data());
      for (int j = 0; j < n; ++j) {
        const double angle = position * inv_freq[j];
        ASSERT_NEAR(cos[j], 1.25 * std::cos(angle), 1e-7) << position << " " << j;
        ASSERT_NEAR(sin[j], 1.25 * std::sin(angle), 1e-7) << position << " " << j;
      }
    }
  }
}

TEST_P(OpsTest, EmbedWidensRowsAndReadsRowZeroForBadIds) {
  constexpr int kVocab = 5;
  for (const int hidden : {1, 7, 16, 65}) {
    const std::vector<float> exact = Random(kVocab * hidden, 1);
    std::vector<uint16_t> bf16(exact.size()), f16(exact.size());
    for (size_t i = 0; i < exact.size(); ++i) {
      bf16[i] = FloatToBf16(exact[i]);
      f16[i] = static_cast<uint16_t>(0x3000 + i * 37 % 0x1000);
    }
    const std::vector<int32_t> tokens = {4, 0, -1, 3, 5, 1};
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      EmbedParams p;
      p.tokens = tokens.data();
      p.num_tokens = 6;
      p.hidden = hidden;
      p.vocab = kVocab;
      p.table_dtype = dtype;
      p.table = dtype == DType::kF32    ? static_cast<const void*>(exact.data())
                : dtype == DType::kBF16 ? static_cast<const void*>(bf16.data())
                                        : static_cast<const void*>(f16.data());
      std::vector<float> out(6 * hidden);
      p.out = out.data();
      Embed(machine_, p);
      const int32_t row[6] = {4, 0, 0, 3, 0, 1};
      for (int t = 0; t < 6; ++t) {
        for (int i = 0; i < hidden; ++i) {
          ASSERT_EQ(out[t * hidden + i], LoadAsFloat(p.table, dtype, row[t] * hidden + i));
        }
      }
    }
  }
}

TEST_P(OpsTest, RmsNormAddsThenNormalises) {
  for (const int hidden : {1, 5, 64, 576, 1000}) {
    for (const int rows : {1, 3, 150}) {
      const std::vector<float> start = Random(size_t(rows) * hidden, 2), delta = Random(size_t(rows) * hidden, 3),
                               weight = Random(hidden, 4);
      std::vector<float> residual = start, out(start.size());
      std::vector<uint16_t> narrow(start.size());
      RmsNormParams p;
      p.residual = residual.data();
      p.delta = delta.data();
      p.weight = weight.data();
      p.rows = rows;
      p.hidden = hidden;
      p.eps = 1e-5f;
      p.out = out.data();
      RmsNorm(machine_, p);
      for (int r = 0; r < rows; ++r) {
        double squares = 0;
        for (int i = 0; i < hidden; ++i) {
          const size_t at = size_t(r) * hidden + i;
          ASSERT_EQ(residual[at], start[at] + delta[at]);
          squares += double{residual[at]} * residual[at];
        }
        const double factor = 1.0 / std::sqrt(squares / hidden + 1e-5);
        for (int i = 0; i < hidden; ++i) {
          const size_t at = size_t(r) * hidden + i;
          ASSERT_NEAR(out[at], residual[at] * factor * weight[i], 2e-6 * (1 + std::abs(out[at])));
        }
      }
      // Without a delta the residual stays; bf16 is the f32 result, rounded.
      const std::vector<float> before = residual;
      p.delta = nullptr;
      p.out = narrow.data();
      p.out_dtype = DType::kBF16;
      RmsNorm(machine_, p);
      EXPECT_EQ(residual, before);
      for (size_t i = 0; i < out.size(); ++i) ASSERT_EQ(narrow[i], FloatToBf16(out[i]));
      // Without an output only the addition happens.
      p.delta = delta.data();
      p.out = nullptr;
      RmsNorm(machine_, p);
      for (size_t i = 0; i < out.size(); ++i) ASSERT_EQ(residual[i], before[i] + delta[i]);
    }
  }
}

TEST_P(OpsTest, HeadNormNormalisesEachHeadInPlace) {
  constexpr int kTokens = 70, kHeads = 3, kStride = 200;
  for (const int dim : {6, 16, 64}) {
    const std::vector<float> start = Random(kTokens * kStride, 5), weight = Random(dim, 6);
    std::vector<float> x = start;
    HeadNormParams p{x.data(), kStride, weight.data(), kTokens, kHeads, dim, 1e-6f};
    HeadNorm(machine_, p);
    for (int t = 0; t < kTokens; ++t) {
      for (int i = 0; i < kStride; ++i) {
        const size_t at = size_t(t) * kStride + i;
        if (i >= kHeads * dim) {
          ASSERT_EQ(x[at], start[at]);
          continue;
        }
        const float* head = &start[size_t(t) * kStride + i / dim * dim];
        double squares = 0;
        for (int d = 0; d < dim; ++d) squares += double{head[d]} * head[d];
        const double expected = start[at] / std::sqrt(squares / dim + 1e-6) * weight[i % dim];
        ASSERT_NEAR(x[at], expected, 2e-6 * (1 + std::abs(expected)));
      }
    }
  }
}

TEST_P(OpsTest, RopeRotatesHalves) {
  constexpr int kTokens = 40, kHeads = 2;
  struct Case {
    int dim, half;
  };
  for (const Case c : {Case{2, 1}, {64, 32}, {64, 10}, {128, 64}, {40, 13}, {320, 150}}) {
    const int stride = kHeads * c.dim + 5;
    const std::vector<float> start = Random(size_t(kTokens) * stride, 7);
    std::vector<float> x = start, inv_freq(c.half);
    std::vector<int32_t> position(kTokens);
    for (int t = 0; t < kTokens; ++t) position[t] = t * 397 % 9973;
    for (int j = 0; j < c.half; ++j) inv_freq[j] = static_cast<float>(std::pow(640000.0, -double(j) / c.half));
    RopeParams p{x.data(), stride, position.data(), inv_freq.data(), 0.8f, kTokens, kHeads, c.dim, c.half};
    Rope(machine_, p);
    for (int t = 0; t < kTokens; ++t) {
      for (int i = 0; i < stride; ++i) {
        const size_t at = size_t(t) * stride + i;
        const int d = i % c.dim;
        if (i >= kHeads * c.dim || d >= 2 * c.half) {
          ASSERT_EQ(x[at], start[at]);
          continue;
        }
        const int j = d % c.half;
        const double angle = double{inv_freq[j]} * position[t];
        const double cos = std::cos(angle) * 0.8f, sin = std::sin(angle) * 0.8f;
        const double expected =
            d < c.half ? start[at] * cos - start[at + c.half] * sin : start[at] * cos + start[at - c.half] * sin;
        ASSERT_NEAR(x[at], expected, 1e-6) << "token " << t << " dim " << d;
      }
    }
  }
}

TEST_P(OpsTest, GatesByChannelAndByHead) {
  constexpr int kTokens = 21, kHeads = 3;
  for (const int v_dim : {1, 5, 64}) {
    for (const bool per_head : {false, true}) {
      for (const bool two : {false, true}) {
        const int width = kHeads * v_dim, gates = per_head ? kHeads : width;
        const std::vector<float> a = Random(size_t(kTokens) * width, 8), b = Random(size_t(kTokens) * width, 9),
                                 gate_a = Random(size_t(kTokens) * (gates + 2), 10, 3.0f),
                                 gate_b = Random(size_t(kTokens) * (gates + 1), 11, 3.0f);
        std::vector<float> out(a.size());
        std::vector<uint16_t> narrow(a.size());
        GateParams p;
        p.a = a.data();
        p.gate_a = gate_a.data();
        p.gate_a_stride = gates + 2;
        if (two) {
          p.b = b.data();
          p.gate_b = gate_b.data();
          p.gate_b_stride = gates + 1;
        }
        p.per_head = per_head;
        p.num_tokens = kTokens;
        p.heads = kHeads;
        p.v_dim = v_dim;
        p.out = out.data();
        Gate(machine_, p);
        p.out = narrow.data();
        p.out_dtype = DType::kBF16;
        Gate(machine_, p);
        for (int t = 0; t < kTokens; ++t) {
          for (int i = 0; i < width; ++i) {
            const int g = per_head ? i / v_dim : i;
            const size_t at = size_t(t) * width + i;
            double expected = Sigma(gate_a[size_t(t) * (gates + 2) + g]) * a[at];
            if (two) expected += Sigma(gate_b[size_t(t) * (gates + 1) + g]) * b[at];
            ASSERT_NEAR(out[at], expected, 1e-6);
            ASSERT_EQ(narrow[at], FloatToBf16(out[at]));
          }
        }
      }
    }
  }
}

TEST_P(OpsTest, SwiGluMultipliesSiluByUp) {
  for (const int width : {1, 9, 128, 1536}) {
    const std::vector<float> gate = Random(width, 12, 4.0f), up = Random(width, 13, 4.0f);
    std::vector<float> out(width);
    std::vector<uint16_t> narrow(width);
    rows_.swiglu(gate.data(), up.data(), width, {out.data(), false});
    rows_.swiglu(gate.data(), up.data(), width, {narrow.data(), true});
    for (int i = 0; i < width; ++i) {
      const double expected = gate[i] * Sigma(gate[i]) * up[i];
      ASSERT_NEAR(out[i], expected, 6e-7 * (std::abs(expected) + 1e-6));
      ASSERT_EQ(narrow[i], FloatToBf16(out[i]));
    }
  }
}

TEST_P(OpsTest, GatherCopiesRows) {
  constexpr int kWidth = 33;
  const std::vector<float> x = Random(10 * kWidth, 13);
  const std::vector<int32_t> index = {9, 0, 3, 3, 8};
  std::vector<float> out(index.size() * kWidth);
  GatherRows(machine_, {x.data(), index.data(), 5, kWidth, out.data()});
  for (size_t r = 0; r < index.size(); ++r) {
    EXPECT_EQ(std::memcmp(&out[r * kWidth], &x[index[r] * kWidth], kWidth * 4), 0);
  }
}

TEST_P(OpsTest, CopyMovesTheBytesItIsAskedTo) {
  for (const int64_t bytes : {0, 1, 64, 16384, 16385, 3 << 20}) {
    std::vector<std::byte> from(static_cast<size_t>(bytes) + 2), to(from.size(), std::byte{7});
    for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::byte>(i * 2654435761u >> 24);
    Copy(machine_, {CopyRoute::kDeviceToHost, from.data() + 1, to.data() + 1, bytes});
    EXPECT_EQ(std::memcmp(from.data() + 1, to.data() + 1, static_cast<size_t>(bytes)), 0) << bytes;
    EXPECT_EQ(to.front(), std::byte{7});
    EXPECT_EQ(to.back(), std::byte{7});
  }
}

// A vector's lanes must not show: the same value in any place gives the same bits.
TEST_P(OpsTest, AnElementDoesNotDependOnItsPlace) {
  const std::vector<float> gate = Random(100, 14, 5.0f), up = Random(100, 15);
  std::vector<float> whole(100), single(1);
  rows_.swiglu(gate.data(), up.data(), 100, {whole.data(), false});
  for (int i = 0; i < 100; ++i) {
    rows_.swiglu(&gate[i], &up[i], 1, {single.data(), false});
    ASSERT_EQ(std::bit_cast<uint32_t>(single[0]), std::bit_cast<uint32_t>(whole[i]));
  }
  std::vector<float> inv_freq = Random(50, 16), cos(50), sin(50);
  rows_.rotation(777, inv_freq.data(), 50, 1.0f, cos.data(), sin.data());
  for (int i = 0; i < 50; ++i) {
    float c, s;
    rows_.rotation(777, &inv_freq[i], 1, 1.0f, &c, &s);
    ASSERT_EQ(c, cos[i]);
    ASSERT_EQ(s, sin[i]);
  }
}

TEST_P(OpsTest, Bf16RoundsToNearestEven) {
  const float values[] = {1.0f,
                          std::bit_cast<float>(0x3f808000u),  // half way, even below
                          std::bit_cast<float>(0x3f818000u),  // half way, even above
                          std::bit_cast<float>(0x3f808001u),  // just above half way
                          std::bit_cast<float>(0x7f7fffffu),  // rounds to infinity
                          std::bit_cast<float>(0x00000001u),  // rounds to zero
                          std::bit_cast<float>(0x00018000u),  // a subnormal half way
                          std::bit_cast<float>(0x7f800001u),  // NaN whose payload is in the low half
                          -std::numeric_limits<float>::infinity()};
  const uint16_t expected[] = {0x3f80, 0x3f80, 0x3f82, 0x3f81, 0x7f80, 0x0000, 0x0002, 0x7fc0, 0xff80};
  const int n = std::size(values);
  // A gate of 40 is a factor of exactly 1.
  std::vector<uint16_t> out(n);
  rows_.gate_all(values, 40.0f, nullptr, 0.0f, n, {out.data(), true});
  for (int i = 0; i < n; ++i) {
    EXPECT_EQ(FloatToBf16(values[i]), expected[i]) << i;
    EXPECT_EQ(out[i], expected[i]) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, OpsTest, EachIsa(), IsaCaseName);

}  // namespace
}  // namespace hysparse::cpu
