// Router: scores in fp32, the `top` best experts of each token.
#include <algorithm>

#include "kernels/cpu/ops.h"
#include "kernels/cpu/share_rows.h"

namespace hysparse::cpu {
namespace {

constexpr int kRows = 16;     // of x: stay in L2 while the experts pass
constexpr int kExperts = 32;  // of one item: enough items to fill the pool at one token
constexpr double kSelectNs = 2.0;
constexpr size_t kWorkspace = size_t{4} << 20;

// The `top` experts of highest choice = score + bias, ties to the lower one, by insertion: `top` is small. A NaN choice
// is chosen only where nothing else is left.
void Choose(const float* score, const float* bias, int experts, int top, int32_t* ids) {
  const auto choice = [&](int32_t e) { return bias == nullptr ? score[e] : score[e] + bias[e]; };
  const auto better = [&](int32_t a, int32_t b) {
    return choice(a) > choice(b) || (choice(b) != choice(b) && choice(a) == choice(a));
  };
  int kept = 0;
  for (int32_t e = 0; e < experts; ++e) {
    if (kept == top && !better(e, ids[top - 1])) continue;
    int at = kept < top ? kept++ : top - 1;
    for (; at > 0 && better(e, ids[at - 1]); --at) ids[at] = ids[at - 1];
    ids[at] = e;
  }
  std::sort(ids, ids + top);
}

void Weigh(const RouterParams& p, const float* score, const int32_t* ids, float* weights) {
  float sum = 0;
  for (int i = 0; i < p.top; ++i) sum += score[ids[i]];
  for (int i = 0; i < p.top; ++i) {
    weights[i] = (p.normalize ? score[ids[i]] / sum : score[ids[i]]) * p.routed_scale;
  }
}

}  // namespace

size_t RouterWorkspaceBytes() { return kWorkspace; }

void Router(const Machine& machine, const OpContext& ctx, const RouterParams& p) {
  auto* logits = reinterpret_cast<float*>(ctx.workspace);
  const auto pass = static_cast<int64_t>(kWorkspace / (sizeof(float) * p.experts));  // tokens
  const int groups = (p.experts + kExperts - 1) / kExperts;
  for (int64_t first = 0; first < p.num_tokens; first += pass) {
    const int64_t tokens = std::min(pass, p.num_tokens - first);
    const int64_t blocks = (tokens + kRows - 1) / kRows;
    const float* x = p.x + first * p.hidden;
    // Blocks of rows vary fastest: consecutive items share their experts' weights.
    machine.pool.ParallelFor(blocks * groups, [&](int64_t item, int) {
      const int64_t row = item % blocks * kRows, expert = item / blocks * kExperts;
      machine.rows.dots(x + row * p.hidden, static_cast<int>(std::min<int64_t>(kRows, tokens - row)),
                        p.weight + expert * p.hidden, static_cast<int>(std::min<int64_t>(kExperts, p.experts - expert)),
                        p.hidden, logits + row * p.experts + expert, p.experts);
    });
    ShareRows(machine.pool, tokens, p.experts * kSelectNs, [&](int64_t row) {
      float* score = logits + row * p.experts;
      (p.sigmoid ? machine.rows.sigmoid : machine.rows.softmax)(score, p.experts);
      int32_t* ids = p.ids + (first + row) * p.top;
      Choose(score, p.bias, p.experts, p.top, ids);
      Weigh(p, score, ids, p.weights + (first + row) * p.top);
    });
  }
}

}  // namespace hysparse::cpu
