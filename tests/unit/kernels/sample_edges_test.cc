// The sampling op at its edges: cuts, ties, extreme and broken input, and the scan of every instruction set.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernels/cpu/cpu_features.h"
#include "kernels/cpu/sample.h"
#include "kernels/cpu/sample_scan.h"
#include "tests/unit/kernels/sample_batch.h"

namespace hysparse::cpu {
namespace {

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
