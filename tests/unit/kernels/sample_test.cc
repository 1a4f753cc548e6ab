// The sampling op against a naive implementation in double precision, statistics with fixed seeds, and broken input.
#include "kernels/cpu/sample.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/cpu/cpu_features.h"
#include "kernels/cpu/sample_scan.h"
#include "kernels/philox.h"

namespace hysparse::cpu {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// A batch of rows with everything the op reads and writes.
struct Batch {
  explicit Batch(int32_t vocab) : vocab(vocab) {}

  SampleRow& Add(std::vector<float> row_logits) {
    logits.insert(logits.end(), row_logits.begin(), row_logits.end());
    SampleRow row;
    row.bias_begin = row.bias_end = static_cast<int32_t>(bias.size());
    row.history_begin = row.history_end = static_cast<int32_t>(history.size());
    row.banned_begin = row.banned_end = static_cast<int32_t>(banned.size());
    rows.push_back(row);
    return rows.back();
  }
  // To the row added last.
  void Bias(int32_t token, float value) { bias.push_back({token, value}), ++rows.back().bias_end; }
  void History(int32_t token, int32_t prompt, int32_t output) {
    history.push_back({token, prompt, output}), ++rows.back().history_end;
  }
  void Ban(int32_t token) { banned.push_back(token), ++rows.back().banned_end; }

  Batch& Run(int threads = 2) {
    const size_t n = rows.size();
    token.assign(n, -7);
    logprob.assign(n, -7);
    top_ids.assign(n * kMaxTopLogprobs, -7);
    top_logprobs.assign(n * kMaxTopLogprobs, -7);
    ThreadPool pool(threads);
    StepLimits limits;
    limits.vocab = vocab;
    // Exactly as large as promised, so that ASan sees an access beyond it.
    const size_t bytes = SampleWorkspaceBytes(threads, limits);
    std::unique_ptr<std::byte[], void (*)(std::byte*)> workspace(
        static_cast<std::byte*>(::operator new (bytes, std::align_val_t{64})),
        [](std::byte* p) { ::operator delete (p, std::align_val_t{64}); });
    OpContext ctx{nullptr, workspace.get(), bytes};
    SampleParams p;
    p.logits = logits.data();
    p.rows = static_cast<int32_t>(n);
    p.vocab = vocab;
    p.row = rows.data();
    p.bias = bias.data();
    p.history = history.data();
    p.banned = banned.data();
    p.token = token.data();
    p.logprob = logprob.data();
    p.top_ids = top_ids.data();
    p.top_logprobs = top_logprobs.data();
    Sample(pool, ctx, p);
    return *this;
  }

  int32_t vocab;
  std::vector<float> logits;
  std::vector<SampleRow> rows;
  std::vector<TokenBias> bias;
  std::vector<TokenCount> history;
  std::vector<int32_t> banned;
  std::vector<int32_t> token, top_ids;
  std::vector<float> logprob, top_logprobs;
};

std::vector<float> RandomLogits(std::mt19937& rng, int32_t vocab, float spread = 3.0f) {
  std::normal_distribution<float> normal(0.0f, spread);
  std::vector<float> logits(static_cast<size_t>(vocab));
  for (float& l : logits) l = normal(rng);
  return logits;
}

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

TEST(Sample, TopPKeepsTheShortestPrefixThatReachesP) {
  // Probabilities 0.4, 0.3, 0.2, 0.1: p = 0.69 needs two tokens, 0.71 three.
  const std::vector<float> logits = {std::log(0.1f), std::log(0.4f), std::log(0.2f), std::log(0.3f)};
  for (const auto& [p, allowed] : std::vector<std::pair<float, std::vector<int>>>{
           {0.0f, {1}}, {0.39f, {1}}, {0.41f, {1, 3}}, {0.69f, {1, 3}}, {0.71f, {1, 2, 3}}, {0.95f, {0, 1, 2, 3}}}) {
    Batch b(4);
    for (uint32_t i = 0; i < 400; ++i) {
      SampleRow& row = b.Add(logits);
      row.top_p = p;
      row.position = i;
    }
    b.Run();
    std::vector<int> seen = b.token;
    std::sort(seen.begin(), seen.end());
    seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
    EXPECT_EQ(seen, allowed) << "top_p " << p;
  }
}

TEST(Sample, TiesAtACutGoToTheLowerIds) {
  for (int32_t vocab : {10, 1000, 40000}) {
    Batch k(vocab), p(vocab);
    for (uint32_t i = 0; i < 200; ++i) {
      k.Add(std::vector<float>(static_cast<size_t>(vocab), 1.5f)).top_k = 3;
      k.rows.back().position = i;
      p.Add(std::vector<float>(static_cast<size_t>(vocab), 1.5f)).top_p = 2.5f / static_cast<float>(vocab);
      p.rows.back().position = i;
      if (vocab == 40000 && i == 20) break;
    }
    k.Run();
    p.Run();
    EXPECT_LT(*std::max_element(k.token.begin(), k.token.end()), 3) << vocab;
    EXPECT_LT(*std::max_element(p.token.begin(), p.token.end()), 3) << vocab;
  }
}

TEST(Sample, BothZerosTie) {
  Batch b(4);
  b.Add({-0.0f, 0.0f, -0.0f, 0.0f}).num_top_logprobs = 4;
  b.Run();
  EXPECT_EQ(std::vector<int32_t>(b.top_ids.begin(), b.top_ids.begin() + 4), (std::vector<int32_t>{0, 1, 2, 3}));
}

TEST(Sample, ExtremeTemperatures) {
  for (float temperature : {0.0f, 1e-30f, 9e-6f, 1e-4f}) {
    Batch b(3);
    b.Add({1, 3, 2}).temperature = temperature;
    EXPECT_EQ(b.Run().token[0], 1) << temperature;
  }
  for (float temperature : {1e9f, std::numeric_limits<float>::max(), kInf}) {  // nearly uniform
    Batch b(3);
    for (uint32_t i = 0; i < 300; ++i) {
      SampleRow& row = b.Add({-100, 1000, -kInf});
      row.temperature = temperature;
      row.position = i;
    }
    b.Run();
    EXPECT_EQ(std::count(b.token.begin(), b.token.end(), 2), 0) << "-inf is never drawn";
    EXPECT_GT(std::count(b.token.begin(), b.token.end(), 0), 100) << temperature;
    EXPECT_GT(std::count(b.token.begin(), b.token.end(), 1), 100) << temperature;
  }
}

TEST(Sample, BrokenRowsYieldMinusOneAndLeaveTheOthersAlone) {
  std::mt19937 rng(5);
  const int32_t vocab = 300;
  for (float poison : {kNaN, kInf}) {
    for (int32_t at : {0, 17, 255, 299}) {
      for (float temperature : {0.0f, 1.0f}) {
        Batch b(vocab), alone(vocab);
        const std::vector<float> good = RandomLogits(rng, vocab);
        std::vector<float> bad = good;
        bad[static_cast<size_t>(at)] = poison;
        b.Add(good).temperature = temperature;
        b.Add(bad).temperature = temperature;
        b.rows.back().num_top_logprobs = 20;
        b.Add(good).temperature = temperature;
        alone.Add(good).temperature = temperature;
        b.Run();
        alone.Run();
        EXPECT_EQ(b.token[1], -1);
        EXPECT_TRUE(std::isnan(b.logprob[1]));
        EXPECT_EQ(b.token[0], alone.token[0]);
        EXPECT_EQ(b.token[2], alone.token[0]);
      }
    }
  }
  Batch none(2);
  none.Add({-kInf, -kInf});
  none.Add({1, 2}), none.Ban(0), none.Ban(1);
  none.Add({1, 2}).target = 2;  // beyond the vocabulary
  none.Add({1, 2}).temperature = 0, none.Bias(0, kInf);
  none.Run();
  EXPECT_EQ(none.token, (std::vector<int32_t>{-1, -1, -1, -1}));
}

TEST(Sample, IdsOutsideTheVocabularyAreSkipped) {
  Batch b(3);
  b.Add({1, 3, 2}).temperature = 0;
  for (int32_t id : {-1, 3, std::numeric_limits<int32_t>::max(), std::numeric_limits<int32_t>::min()}) {
    b.Bias(id, 50);
    b.History(id, 1, 1);
    b.Ban(id);
  }
  EXPECT_EQ(b.Run().token[0], 1);
}

TEST(Sample, ARowDependsOnNothingElseInTheBatch) {
  std::mt19937 rng(6);
  const int32_t vocab = 5000;
  Batch all(vocab);
  std::vector<Batch> single;
  for (uint32_t i = 0; i < 24; ++i) {
    const std::vector<float> logits = RandomLogits(rng, vocab);
    single.emplace_back(vocab);
    for (Batch* b : {&all, &single.back()}) {
      SampleRow& row = b->Add(logits);
      row.seed = i;
      row.top_p = i % 3 ? 0.9f : 1.0f;
      row.top_k = i % 2 ? 50 : 0;
      row.num_top_logprobs = 5;
    }
    all.Bias(static_cast<int32_t>(i), 2.0f);
    single.back().Bias(static_cast<int32_t>(i), 2.0f);
  }
  for (int threads : {1, 3}) {
    all.Run(threads);
    for (size_t i = 0; i < single.size(); ++i) {
      single[i].Run(1);
      EXPECT_EQ(all.token[i], single[i].token[0]);
      EXPECT_EQ(all.logprob[i], single[i].logprob[0]);
      for (size_t k = 0; k < 5; ++k) {
        EXPECT_EQ(all.top_logprobs[i * kMaxTopLogprobs + k], single[i].top_logprobs[k]);
      }
    }
  }
}

TEST(SampleScan, EveryInstructionSetGivesTheSameBits) {
  if (AvailableIsas().empty() || AvailableIsas().back() < CpuIsa::kAvx512) GTEST_SKIP() << "no AVX-512 here";
  std::mt19937 rng(7);
  for (int32_t n : {1, 16, 100, 128, 129, 1000, 10001}) {
    const std::vector<float> x = RandomLogits(rng, n, 20.0f);
    const float max = *std::max_element(x.begin(), x.end());
    std::vector<float> w[2], maxima[2];
    std::vector<double> sums[2];
    for (int isa = 0; isa < 2; ++isa) {
      const ScanOps& ops = isa ? kScanAvx512 : kScanAvx2;
      w[isa].resize(static_cast<size_t>(n));
      maxima[isa].resize(static_cast<size_t>(ScanBlocks(n)));
      sums[isa].resize(static_cast<size_t>(ScanBlocks(n)));
      EXPECT_TRUE(ops.block_max(x.data(), n, maxima[isa].data()));
      ops.weights(x.data(), n, max, 0.7f, 1e-9f, w[isa].data(), sums[isa].data());
    }
    EXPECT_EQ(w[0], w[1]);
    EXPECT_EQ(maxima[0], maxima[1]);
    EXPECT_EQ(sums[0], sums[1]);
    const float threshold = x[static_cast<size_t>(n / 2)];
    int32_t count[2];
    double above[2];
    for (int isa = 0; isa < 2; ++isa) {
      const ScanOps& ops = isa ? kScanAvx512 : kScanAvx2;
      above[isa] = ops.above(x.data(), w[isa].data(), n, threshold, &count[isa]);
      EXPECT_EQ(ops.above(x.data(), nullptr, n, threshold, &count[isa]), count[isa]);
    }
    EXPECT_EQ(above[0], above[1]);
    EXPECT_EQ(count[0], count[1]);
    EXPECT_EQ(count[0], std::count_if(x.begin(), x.end(), [&](float v) { return v >= threshold; }));
    for (int32_t i = 0; i < n; ++i) {
      const double exact = std::exp(static_cast<double>((x[static_cast<size_t>(i)] - max) * 0.7f));
      EXPECT_NEAR(w[0][static_cast<size_t>(i)], exact < 1e-9 ? 0 : exact, 3e-7 * exact);
    }
    const std::vector<float> before = w[0];
    kScanAvx2.keep(x.data(), n, threshold, 1e-6f, w[0].data(), sums[0].data());
    kScanAvx512.keep(x.data(), n, threshold, 1e-6f, w[1].data(), sums[1].data());
    EXPECT_EQ(w[0], w[1]);
    EXPECT_EQ(sums[0], sums[1]);
    for (size_t i = 0; i < x.size(); ++i) {
      EXPECT_EQ(w[0][i], x[i] > threshold && before[i] >= 1e-6f ? before[i] : 0);
    }
  }
}

}  // namespace
}  // namespace hysparse::cpu
