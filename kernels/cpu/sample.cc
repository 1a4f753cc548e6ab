#include "kernels/cpu/sample.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "kernels/cpu/cpu_features.h"
#include "kernels/cpu/sample_scan.h"
#include "kernels/philox.h"

namespace hysparse::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kGreedyBelow = 1e-5f, kHottest = 1e30f;

const ScanOps& Scan() {
  static const ScanOps& ops = []() -> const ScanOps& {
    const absl::StatusOr<CpuIsa> isa = DetectCpuIsa();
    return isa.ok() && *isa >= CpuIsa::kAvx512 ? kScanAvx512 : kScanAvx2;
  }();
  return ops;
}

// One thread's part of the workspace.
struct Scratch {
  float *adjusted, *values, *weights;          // [V]
  int32_t* ids;                                // [V]
  uint64_t* keys;                              // [V]
  double* sums;                                // [blocks]
  float *raw_max, *adjusted_max, *sorted_max;  // [blocks]
};

constexpr size_t Aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

size_t ScratchBytes(int32_t vocab) {
  const size_t v = static_cast<size_t>(vocab), blocks = static_cast<size_t>(ScanBlocks(vocab));
  return 4 * Aligned(4 * v) + Aligned(8 * v) + Aligned(8 * blocks) + 3 * Aligned(4 * blocks);
}

Scratch Carve(std::byte* at, int32_t vocab) {
  const size_t v = static_cast<size_t>(vocab), blocks = static_cast<size_t>(ScanBlocks(vocab));
  const auto take = [&at]<typename T>(T*& out, size_t count) {
    out = reinterpret_cast<T*>(at);
    at += Aligned(sizeof(T) * count);
  };
  Scratch s;
  take(s.adjusted, v);
  take(s.values, v);
  take(s.weights, v);
  take(s.ids, v);
  take(s.keys, v);
  take(s.sums, blocks);
  take(s.raw_max, blocks);
  take(s.adjusted_max, blocks);
  take(s.sorted_max, blocks);
  return s;
}

// Sorts as (value descending, index ascending) when sorted descending. `value` is not NaN.
uint64_t RankKey(float value, int32_t index) {
  const uint32_t bits = std::bit_cast<uint32_t>(value + 0.0f);  // -0 ties with +0
  const uint32_t ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
  return uint64_t{ordered} << 32 | static_cast<uint32_t>(~index);
}
float ValueOf(uint64_t key) {
  const uint32_t ordered = static_cast<uint32_t>(key >> 32);
  return std::bit_cast<float>(ordered >> 31 ? ordered & 0x7FFFFFFFu : ~ordered);
}
int32_t IndexOf(uint64_t key) { return static_cast<int32_t>(~static_cast<uint32_t>(key)); }

bool InVocab(int32_t id, int32_t vocab) { return id >= 0 && id < vocab; }

double Sum(const double* sums, int32_t n) {
  double total = 0;
  for (int32_t b = 0; b < ScanBlocks(n); ++b) total += sums[b];
  return total;
}

// The lowest index of the highest value, by way of the block maxima.
int32_t ArgMax(const float* x, int32_t n, const float* maxima) {
  const int32_t block = static_cast<int32_t>(std::max_element(maxima, maxima + ScanBlocks(n)) - maxima);
  const float* begin = x + block * kScanBlock;
  const float* end = x + std::min(n, (block + 1) * kScanBlock);
  return static_cast<int32_t>(std::find(begin, end, maxima[block]) - x);
}

// The keys of the k highest finite values, in no order; returns how many. With at most one k per block, the k-th
// highest block maximum bounds the k-th highest value from below, so that few blocks are looked at.
int32_t TopK(const float* x, int32_t n, int32_t k, const float* maxima, const Scratch& s) {
  const int32_t blocks = ScanBlocks(n);
  float bound = std::numeric_limits<float>::lowest();
  if (k <= blocks) {
    std::copy(maxima, maxima + blocks, s.sorted_max);
    std::nth_element(s.sorted_max, s.sorted_max + k - 1, s.sorted_max + blocks, std::greater<>());
    bound = std::max(bound, s.sorted_max[k - 1]);
  }
  int32_t count = 0;
  for (int32_t b = 0; b < blocks; ++b) {
    if (maxima[b] < bound) continue;
    for (int32_t i = b * kScanBlock; i < std::min(n, (b + 1) * kScanBlock); ++i) {
      if (x[i] >= bound) s.keys[count++] = RankKey(x[i], i);
    }
  }
  if (count <= k) return count;
  std::nth_element(s.keys, s.keys + k - 1, s.keys + count, std::greater<>());
  return k;
}

// A prefix of the ranking: the values above `value`, and of those equal to it the first `ties`.
struct Cut {
  float value;
  int32_t ties;
};

// The cut behind the lowest of keys[0, count), these being all values above it. count >= 1.
Cut CutBehind(const uint64_t* keys, int32_t count) {
  const float value = ValueOf(*std::min_element(keys, keys + count));
  return {value, static_cast<int32_t>(
                     std::count_if(keys, keys + count, [value](uint64_t key) { return ValueOf(key) == value; }))};
}

double WeightOf(const float* weights, uint64_t key) {
  return weights == nullptr ? 1.0 : static_cast<double>(weights[IndexOf(key)]);
}

// How many of keys[0, count), brought into rank order as far as needed, make up `target` of weight: the shortest prefix
// that does, of one key or more. Halves the range by weight, so that O(count) keys are touched and few are sorted.
int32_t PrefixOfWeight(uint64_t* keys, int32_t count, const float* weights, double target) {
  int32_t low = 0, high = count;
  double before = 0;  // weight of keys[0, low)
  while (high - low > 32) {
    const int32_t middle = low + (high - low) / 2;
    std::nth_element(keys + low, keys + middle, keys + high, std::greater<>());
    double half = 0;
    for (int32_t i = low; i < middle; ++i) half += WeightOf(weights, keys[i]);
    if (before + half >= target) {
      high = middle;
    } else {
      before += half;
      low = middle;
    }
  }
  std::sort(keys + low, keys + high, std::greater<>());
  while (low < high && before < target) before += WeightOf(weights, keys[low++]);
  return std::max(1, low);
}

// The shortest prefix of the ranking of x[0, n) whose weights (null: ones) reach `target`, among the values >= `low`,
// which reach it. Narrows the values by halving, a pass each, until few are left to rank.
Cut FindCut(const float* x, const float* weights, int32_t n, float low, float max, double target, const Scratch& s) {
  constexpr int32_t kFew = 1024;
  uint32_t low_key = static_cast<uint32_t>(RankKey(low, 0) >> 32);
  uint32_t high_key = static_cast<uint32_t>(RankKey(max, 0) >> 32) + 1;  // values from here on stay below the target
  double before = 0;                                                     // their weight
  int32_t above_low = n, above_high = 0;
  while (above_low - above_high > kFew && high_key - low_key > 1) {
    const uint32_t middle = low_key + (high_key - low_key) / 2;
    int32_t count;
    const double weight = Scan().above(x, weights, n, ValueOf(uint64_t{middle} << 32), &count);
    if (weight >= target) {
      low_key = middle, above_low = count;
    } else {
      high_key = middle, above_high = count, before = weight;
    }
  }
  const float least = ValueOf(uint64_t{low_key} << 32), beyond = ValueOf(uint64_t{high_key} << 32);
  int32_t count = 0;
  for (int32_t i = 0; i < n; ++i) {
    if (x[i] >= least && !(x[i] >= beyond)) s.keys[count++] = RankKey(x[i], i);
  }
  if (count == 0) return {least, 0};  // rounding: what lies above already reaches it
  return CutBehind(s.keys, PrefixOfWeight(s.keys, count, weights, target - before));
}

// The tokens that may be drawn, ascending: index i of the arrays is token ids[i], or i where ids is null.
struct Candidates {
  int32_t count;
  const float* value;
  const int32_t* ids;
};

Candidates ApplyTopK(const float* x, int32_t n, int32_t k, float max, const float* maxima, const Scratch& s) {
  if (k <= 0 || k >= n) return {n, x, nullptr};
  Cut cut = k <= ScanBlocks(n) ? CutBehind(s.keys, TopK(x, n, k, maxima, s))
                               : FindCut(x, nullptr, n, std::numeric_limits<float>::lowest(), max, k, s);
  int32_t count = 0;
  for (int32_t b = 0; b < ScanBlocks(n); ++b) {
    if (maxima[b] < cut.value) continue;
    for (int32_t i = b * kScanBlock; i < std::min(n, (b + 1) * kScanBlock); ++i) {
      if (x[i] > cut.value || (x[i] == cut.value && cut.ties-- > 0)) {
        s.ids[count] = i;
        s.values[count++] = x[i];
      }
    }
  }
  return {count, s.values, s.ids};
}

// Zeroes the weights outside the nucleus and below min_p.
void ApplyTopP(const Candidates& c, const SampleRow& row, float max, float scale, const Scratch& s) {
  const double total = Sum(s.sums, c.count), top_p = static_cast<double>(row.top_p);
  // What weighs less than this makes up less than 1 - top_p in all: the nucleus is complete without it.
  const double negligible = (1.0 - top_p) * total / c.count;
  const double depth = (std::log(negligible) - 0.001) / static_cast<double>(scale);
  const float low = static_cast<float>(
      std::max(static_cast<double>(max) + std::min(depth, 0.0), double{std::numeric_limits<float>::lowest()}));
  Cut cut = FindCut(c.value, s.weights, c.count, low, max, top_p * total, s);
  const float* first = std::find(c.value, c.value + c.count, cut.value);
  const float tie_weight = first == c.value + c.count ? 0.0f : s.weights[first - c.value];
  Scan().keep(c.value, c.count, cut.value, row.min_p, s.weights, s.sums);
  if (tie_weight < row.min_p) return;
  for (const float* at = first; cut.ties > 0; at = std::find(at + 1, c.value + c.count, cut.value), --cut.ties) {
    const int64_t i = at - c.value;
    s.weights[i] = tie_weight;
    s.sums[i / kScanBlock] += static_cast<double>(tie_weight);
  }
}

// Inverts the cumulative weight at u.
int32_t Draw(int32_t count, const Scratch& s, double u) {
  double left = u * Sum(s.sums, count);
  int32_t block = 0, last = -1;  // last: block with any weight, where rounding leaves u beyond the end
  for (; block < ScanBlocks(count); ++block) {
    if (s.sums[block] <= 0) continue;
    last = block;
    if (left < s.sums[block]) break;
    left -= s.sums[block];
  }
  if (last < 0) return -1;
  int32_t token = -1;
  for (int32_t i = last * kScanBlock; i < std::min(count, (last + 1) * kScanBlock); ++i) {
    if (s.weights[i] <= 0) continue;
    token = i;
    left -= static_cast<double>(s.weights[i]);
    if (left < 0) break;
  }
  return token;
}

// Writes the logits after penalties, bias and bans; false when the row has none of these.
bool Adjust(const SampleParams& p, const SampleRow& row, const float* logits, float* out) {
  if (row.bias_begin == row.bias_end && row.history_begin == row.history_end && row.banned_begin == row.banned_end) {
    return false;
  }
  std::memcpy(out, logits, sizeof(float) * static_cast<size_t>(p.vocab));
  for (int32_t i = row.history_begin; i < row.history_end; ++i) {
    const TokenCount& seen = p.history[i];
    if (!InVocab(seen.token, p.vocab)) continue;
    float& l = out[seen.token];
    if (seen.prompt + seen.output > 0) l = l > 0 ? l / row.repetition_penalty : l * row.repetition_penalty;
    if (seen.output > 0) l -= row.presence_penalty + row.frequency_penalty * static_cast<float>(seen.output);
  }
  for (int32_t i = row.bias_begin; i < row.bias_end; ++i) {
    if (InVocab(p.bias[i].token, p.vocab)) out[p.bias[i].token] += p.bias[i].bias;
  }
  for (int32_t i = row.banned_begin; i < row.banned_end; ++i) {
    if (InVocab(p.banned[i], p.vocab)) out[p.banned[i]] = -kInfinity;
  }
  return true;
}

// The token drawn from logits `x` whose block maxima are `maxima`; -1 when none can be.
int32_t Choose(const SampleRow& row, const float* x, int32_t vocab, const float* maxima, const Scratch& s) {
  const int32_t best = ArgMax(x, vocab, maxima);
  const float max = x[best];
  if (!(max > -kInfinity)) return -1;
  if (!(row.temperature >= kGreedyBelow)) return best;
  const bool nucleus = row.top_p < 1.0f;
  const float scale = 1.0f / std::min(row.temperature, kHottest);
  const Candidates c = ApplyTopK(x, vocab, row.top_k, max, maxima, s);
  Scan().weights(c.value, c.count, max, scale, nucleus ? 0.0f : row.min_p, s.weights, s.sums);
  if (nucleus) ApplyTopP(c, row, max, scale, s);
  const int32_t index = Draw(c.count, s, SamplingUniform(row.seed, row.choice, row.position));
  return index < 0 || c.ids == nullptr ? index : c.ids[index];
}

void WriteLogprobs(const SampleParams& p, int32_t r, const float* logits, int32_t token, const Scratch& s) {
  const SampleRow& row = p.row[r];
  const float max = *std::max_element(s.raw_max, s.raw_max + ScanBlocks(p.vocab));
  Scan().weights(logits, p.vocab, max, 1.0f, 0.0f, nullptr, s.sums);
  const double log_sum = static_cast<double>(max) + std::log(Sum(s.sums, p.vocab));
  const auto logprob = [&](int32_t id) { return static_cast<float>(static_cast<double>(logits[id]) - log_sum); };
  p.logprob[r] = logprob(token);

  const int32_t wanted = std::clamp(row.num_top_logprobs, 0, kMaxTopLogprobs);
  if (wanted == 0) return;
  const int32_t count = TopK(logits, p.vocab, wanted, s.raw_max, s);
  std::sort(s.keys, s.keys + count, std::greater<>());
  for (int32_t i = 0; i < wanted; ++i) {
    const int64_t at = int64_t{r} * kMaxTopLogprobs + i;
    p.top_ids[at] = i < count ? IndexOf(s.keys[i]) : -1;
    p.top_logprobs[at] = i < count ? logprob(p.top_ids[at]) : -kInfinity;
  }
}

void SampleOne(const SampleParams& p, int32_t r, const Scratch& s) {
  const SampleRow& row = p.row[r];
  const float* logits = p.logits + int64_t{r} * p.vocab;
  p.token[r] = -1;
  p.logprob[r] = kNan;
  if (!Scan().block_max(logits, p.vocab, s.raw_max)) return;
  if (!(*std::max_element(s.raw_max, s.raw_max + ScanBlocks(p.vocab)) > -kInfinity)) return;

  int32_t token = row.target;
  if (token < 0) {
    const bool adjusted = Adjust(p, row, logits, s.adjusted);
    if (adjusted && !Scan().block_max(s.adjusted, p.vocab, s.adjusted_max)) return;
    token = adjusted ? Choose(row, s.adjusted, p.vocab, s.adjusted_max, s) : Choose(row, logits, p.vocab, s.raw_max, s);
  }
  if (!InVocab(token, p.vocab)) return;
  p.token[r] = token;
  if (row.want_logprob || row.num_top_logprobs > 0) WriteLogprobs(p, r, logits, token, s);
}

}  // namespace

void Sample(ThreadPool& pool, const OpContext& ctx, const SampleParams& p) {
  const size_t each = ScratchBytes(p.vocab);
  pool.ParallelFor(p.rows, [&](int64_t row, int worker) {
    SampleOne(p, static_cast<int32_t>(row), Carve(ctx.workspace + static_cast<size_t>(worker) * each, p.vocab));
  });
}

size_t SampleWorkspaceBytes(int threads, const StepLimits& limits) {
  return static_cast<size_t>(std::max(1, threads)) * ScratchBytes(limits.vocab);
}

}  // namespace hysparse::cpu
