// A batch of rows for the sampling op, with everything that the op reads and writes.
#pragma once

#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "kernels/cpu/sample.h"

namespace hysparse::cpu {

inline constexpr float kInf = std::numeric_limits<float>::infinity();
inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

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

inline std::vector<float> RandomLogits(std::mt19937& rng, int32_t vocab, float spread = 3.0f) {
  std::normal_distribution<float> normal(0.0f, spread);
  std::vector<float> logits(static_cast<size_t>(vocab));
  for (float& l : logits) l = normal(rng);
  return logits;
}

}  // namespace hysparse::cpu
