// The sampling op against a naive implementation in double precision, and statistics with fixed seeds.
#include "kernels/cpu/sample.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/philox.h"
#include "tests/unit/kernels/sample_batch.h"

namespace hysparse::cpu {
namespace {

// Probabilities of the draw, by full sorts in double precision; zeros outside the kept set.
struct Naive {
  std::vector<double> probability;  // [V], sums to 1
  double margin = 1;                // how near a truncation came to going the other way
};

Naive NaiveDistribution(const Batch& b, size_t r) {
  const SampleRow& row = b.rows[r];
  const size_t vocab = static_cast<size_t>(b.vocab);
  // Logits after penalties and bias are floats by definition; ranks and ties depend on it.
  std::vector<float> x(b.logits.begin() + static_cast<int64_t>(r * vocab),
                       b.logits.begin() + static_cast<int64_t>((r + 1) * vocab));
  for (int i = row.history_begin; i < row.history_end; ++i) {
    const TokenCount& c = b.history[static_cast<size_t>(i)];
    float& l = x[static_cast<size_t>(c.token)];
    l = l > 0 ? l / row.repetition_penalty : l * row.repetition_penalty;
    if (c.output > 0) l -= row.presence_penalty + row.frequency_penalty * static_cast<float>(c.output);
  }
  for (int i = row.bias_begin; i < row.bias_end; ++i) {
    x[static_cast<size_t>(b.bias[static_cast<size_t>(i)].token)] += b.bias[static_cast<size_t>(i)].bias;
  }
  for (int i = row.banned_begin; i < row.banned_end; ++i) {
    x[static_cast<size_t>(b.banned[static_cast<size_t>(i)])] = -kInf;
  }
  std::vector<size_t> order(vocab);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t i, size_t j) { return x[i] > x[j]; });
  const double max = static_cast<double>(x[order[0]]);
  std::vector<double> w(vocab);
  for (size_t i = 0; i < vocab; ++i)
    w[i] = std::exp((static_cast<double>(x[i]) - max) / static_cast<double>(row.temperature));

  Naive naive;
  size_t kept = row.top_k > 0 ? std::min(vocab, static_cast<size_t>(row.top_k)) : vocab;
  if (row.top_p < 1) {
    double total = 0, sum = 0;
    for (size_t i = 0; i < kept; ++i) total += w[order[i]];
    size_t n = 0;
    while (n < kept && sum < static_cast<double>(row.top_p) * total) {
      sum += w[order[n++]];
      naive.margin = std::min(naive.margin, std::abs(sum / total - static_cast<double>(row.top_p)));
    }
    kept = std::max<size_t>(1, n);
  }
  naive.probability.assign(vocab, 0.0);
  double total = 0;
  for (size_t i = 0; i < kept; ++i) {
    naive.margin = std::min(naive.margin, std::abs(w[order[i]] - static_cast<double>(row.min_p)) + (row.min_p == 0));
    if (w[order[i]] >= static_cast<double>(row.min_p)) total += naive.probability[order[i]] = w[order[i]];
  }
  for (double& p : naive.probability) p /= total;
  return naive;
}

TEST(Philox, PublishedKnownAnswers) {
  // kat_vectors of Random123: "philox 4x32 10".
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}), (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t f = 0xffffffff;
  EXPECT_EQ(Philox4x32({f, f, f, f}, {f, f}), (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, EachOfSeedChoiceAndPositionChangesTheNumber) {
  const double base = SamplingUniform(1, 2, 3);
  EXPECT_NE(base, SamplingUniform(2, 2, 3));
  EXPECT_NE(base, SamplingUniform(1 + (uint64_t{1} << 32), 2, 3));
  EXPECT_NE(base, SamplingUniform(1, 3, 3));
  EXPECT_NE(base, SamplingUniform(1, 2, 4));
}

TEST(Sample, GreedyTakesTheLowestIdOfTheHighestLogit) {
  std::mt19937 rng(1);
  for (int32_t vocab : {1, 2, 15, 16, 17, 127, 128, 129, 1000, 49153}) {
    for (int trial = 0; trial < 8; ++trial) {
      Batch b(vocab);
      std::vector<float> logits = RandomLogits(rng, vocab);
      for (float& l : logits) l = std::round(l);  // many ties
      const auto expected = std::max_element(logits.begin(), logits.end()) - logits.begin();
      b.Add(logits).temperature = 0;
      b.Run();
      ASSERT_EQ(b.token[0], expected) << "vocabulary " << vocab;
    }
  }
}

TEST(Sample, DrawsWhatANaiveImplementationDraws) {
  std::mt19937 rng(2);
  const auto uniform = [&](float low, float high) { return std::uniform_real_distribution<float>(low, high)(rng); };
  int compared = 0;
  for (int trial = 0; trial < 3000; ++trial) {
    const int32_t vocab = std::array{5, 40, 128, 300, 2000, 5000}[rng() % 6];
    Batch b(vocab);
    std::vector<float> logits = RandomLogits(rng, vocab, uniform(0.1f, 6.0f));
    if (rng() % 3 == 0) {
      for (float& l : logits) l = std::round(l);  // thousands of ties, and both zeros
    }
    SampleRow& row = b.Add(logits);
    row.seed = rng();
    row.choice = rng() % 4;
    row.position = rng() % 100000;
    row.temperature = uniform(0.2f, 2.0f);
    if (rng() % 2) row.top_k = 1 + static_cast<int32_t>(rng() % static_cast<uint32_t>(vocab + 2));
    if (rng() % 2) row.top_p = uniform(0.0f, 1.0f);
    if (rng() % 3 == 0) row.min_p = uniform(0.0f, 0.3f);
    if (rng() % 3 == 0) {
      row.repetition_penalty = uniform(0.7f, 1.6f);
      row.presence_penalty = uniform(-1, 1);
      row.frequency_penalty = uniform(-1, 1);
      for (int32_t t = 0; t < vocab; t += 3) b.History(t, static_cast<int>(rng() % 2), static_cast<int>(rng() % 3));
      for (TokenCount& c : b.history) c.prompt += c.output == 0;  // a listed token occurs somewhere
    }
    if (rng() % 3 == 0) b.Bias(static_cast<int32_t>(rng() % static_cast<uint32_t>(vocab)), uniform(-5, 5));
    if (rng() % 3 == 0) b.Ban(static_cast<int32_t>(rng() % static_cast<uint32_t>(vocab)));
    b.Run(1);

    const Naive naive = NaiveDistribution(b, 0);
    if (naive.margin < 1e-5) continue;  // float rounding may decide the truncation
    const double u = SamplingUniform(b.rows[0].seed, b.rows[0].choice, b.rows[0].position);
    double sum = 0;
    int32_t expected = -1;
    bool near = false;
    for (int32_t t = 0; t < vocab && expected < 0; ++t) {
      sum += naive.probability[static_cast<size_t>(t)];
      near |= std::abs(sum - u) < 1e-5;
      if (sum > u) expected = t;
    }
    if (near) continue;
    ++compared;
    ASSERT_EQ(b.token[0], expected) << "trial " << trial << ", vocabulary " << vocab << ", top_k " << b.rows[0].top_k
                                    << ", top_p " << b.rows[0].top_p << ", min_p " << b.rows[0].min_p;
  }
  EXPECT_GT(compared, 2500);
}

TEST(Sample, LogprobsAreTheLogSoftmaxOfTheRawLogits) {
  std::mt19937 rng(3);
  for (int32_t vocab : {3, 20, 130, 4000, 50000}) {
    Batch b(vocab);
    std::vector<float> logits = RandomLogits(rng, vocab, 4.0f);
    logits[1] = logits[0];  // a tie
    SampleRow& row = b.Add(logits);
    row.temperature = 0.3f;
    row.top_k = 2;
    row.num_top_logprobs = 20;
    b.Bias(2, 100.0f);  // changes the draw, not the logprobs
    b.Run();
    ASSERT_EQ(b.token[0], 2);
    long double sum = 0;
    for (float l : logits) sum += std::exp(static_cast<long double>(l));
    const double lse = static_cast<double>(std::log(sum));
    EXPECT_NEAR(b.logprob[0], static_cast<double>(logits[2]) - lse, 2e-6);
    std::vector<int32_t> order(static_cast<size_t>(vocab));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t i, int32_t j) {
      return logits[static_cast<size_t>(i)] > logits[static_cast<size_t>(j)];
    });
    for (size_t i = 0; i < kMaxTopLogprobs; ++i) {
      if (i >= order.size()) {
        EXPECT_EQ(b.top_ids[i], -1);
        EXPECT_EQ(b.top_logprobs[i], -kInf);
        continue;
      }
      ASSERT_EQ(b.top_ids[i], order[i]) << "rank " << i << " of " << vocab;
      EXPECT_NEAR(b.top_logprobs[i], static_cast<double>(logits[static_cast<size_t>(order[i])]) - lse, 2e-6);
    }
  }
}

TEST(Sample, TargetRowsScoreTheirTokenAndDrawNothing) {
  Batch b(4);
  b.Add({0, 1, 2, 3}).target = 1;
  b.rows[0].want_logprob = true;
  b.Run();
  EXPECT_EQ(b.token[0], 1);
  EXPECT_NEAR(b.logprob[0], 1 - std::log(1 + std::exp(1.0) + std::exp(2.0) + std::exp(3.0)), 1e-6);
}

// Draws at many positions against the naive probabilities. The seeds are fixed, so this passes or fails for good.
void ExpectDistribution(Batch& proto, int draws) {
  const int32_t vocab = proto.vocab;
  const Naive naive = NaiveDistribution(proto, 0);
  Batch b(vocab);
  for (int i = 0; i < draws; ++i) {
    SampleRow& row = b.Add(proto.logits);
    row = proto.rows[0];
    row.position = static_cast<uint32_t>(i);
  }
  b.bias = proto.bias;
  b.history = proto.history;
  b.banned = proto.banned;
  b.Run();
  std::vector<double> seen(static_cast<size_t>(vocab));
  for (int32_t t : b.token) seen[static_cast<size_t>(t)] += 1;
  double chi = 0;
  int cells = 0;
  double rare_expected = 0, rare_seen = 0;  // cells below 5 expected draws are taken together
  const auto add = [&](double expected, double observed) {
    chi += (observed - expected) * (observed - expected) / expected;
    ++cells;
  };
  for (size_t t = 0; t < seen.size(); ++t) {
    const double expected = naive.probability[t] * draws;
    if (expected == 0) {
      EXPECT_EQ(seen[t], 0) << "token " << t << " was cut off";
    } else if (expected < 5) {
      rare_expected += expected, rare_seen += seen[t];
    } else {
      add(expected, seen[t]);
    }
  }
  if (rare_expected >= 5) add(rare_expected, rare_seen);
  // About the 1 - 1e-5 quantile (Wilson and Hilferty).
  const double df = std::max(1, cells - 1);
  const double limit = df * std::pow(1 - 2 / (9 * df) + 4.26 * std::sqrt(2 / (9 * df)), 3);
  EXPECT_LT(chi, limit) << cells << " cells";
}

TEST(Sample, FrequenciesFollowTheDistribution) {
  std::mt19937 rng(4);
  for (int kind = 0; kind < 6; ++kind) {
    Batch proto(300);
    SampleRow& row = proto.Add(RandomLogits(rng, 300, 2.0f));
    row.seed = 77 + static_cast<uint64_t>(kind);
    if (kind == 1) row.temperature = 0.5f;
    if (kind == 2) row.top_k = 7;
    if (kind == 3) row.top_p = 0.8f;
    if (kind == 4) row.min_p = 0.05f;
    if (kind == 5) {
      row.temperature = 1.7f, row.top_k = 120, row.top_p = 0.9f, row.min_p = 0.01f;
      proto.History(5, 1, 4);
      proto.rows[0].frequency_penalty = 0.4f;
      proto.Bias(9, 3.0f);
    }
    SCOPED_TRACE(kind);
    ExpectDistribution(proto, 20000);
  }
}

TEST(Sample, ChoicesAndSeedsGiveIndependentStreams) {
  // Correlated streams would show as pairs that agree too often: 1/4 is expected of four equal tokens.
  for (int kind = 0; kind < 2; ++kind) {
    Batch b(4);
    constexpr int kPairs = 8000;
    for (int i = 0; i < kPairs; ++i) {
      for (uint32_t side = 0; side < 2; ++side) {
        SampleRow& row = b.Add({0, 0, 0, 0});
        row.position = static_cast<uint32_t>(i);
        row.seed = kind == 0 ? side : 0;
        row.choice = kind == 0 ? 0 : side;
      }
    }
    b.Run();
    int agree = 0;
    for (size_t i = 0; i < kPairs; ++i) agree += b.token[2 * i] == b.token[2 * i + 1];
    EXPECT_NEAR(agree, kPairs / 4, 4.3 * std::sqrt(kPairs * 3.0 / 16));
  }
}

}  // namespace
}  // namespace hysparse::cpu
