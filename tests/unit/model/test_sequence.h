// Sequences with pages of their own, and the plans of their chunks, for the tests of a rank. Single thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "engine/run/model_runner.h"
#include "gtest/gtest.h"

namespace hysparse {

// Free pages of both classes: the window class has the first half of the slabs. The page given back last is taken
// first, so that stale contents would show.
class TestPages {
 public:
  explicit TestPages(const ArenaLayout& arena) {
    for (int32_t slab = arena.slabs; slab-- > 0;) {
      const ArenaClassLayout& of = slab < arena.slabs / 2 ? arena.window : arena.global;
      for (int32_t p = of.pages_per_slab; p-- > 0;)
        (slab < arena.slabs / 2 ? window_ : global_).push_back(slab * of.pages_per_slab + p);
    }
  }
  int32_t Take(KvClass kv_class) {
    std::vector<int32_t>& free = Free(kv_class);
    EXPECT_FALSE(free.empty()) << "the test's arena is too small";
    const int32_t page = free.back();
    free.pop_back();
    return page;
  }
  void Put(KvClass kv_class, int32_t page) { Free(kv_class).push_back(page); }

 private:
  std::vector<int32_t>& Free(KvClass kv_class) { return kv_class == KvClass::kGlobal ? global_ : window_; }
  std::vector<int32_t> global_, window_;
};

struct TestSequence {
  int64_t id = 0;
  int32_t slot = 0;
  std::vector<int32_t> tokens;
  int32_t done = 0, write_from = 0, window_from = 0;
  std::vector<int32_t> global = {};  // page ids
  int32_t planned = 0;               // of which the slot's table holds this many
  std::vector<int32_t> window = {};
  int32_t window_first = 0;  // logical page of window[0]
};

// Tokens of no particular meaning.
inline std::vector<int32_t> TestTokens(int32_t count, int32_t seed, int32_t vocab) {
  std::vector<int32_t> tokens;
  for (uint32_t x = static_cast<uint32_t>(seed) * 2654435761u; count > 0; --count)
    tokens.push_back(static_cast<int32_t>((x = x * 1664525u + 1013904223u) >> 8) % vocab);
  return tokens;
}

template <typename T>
PlanRange AppendRange(std::vector<T>& to, const std::vector<T>& from, int32_t begin = 0) {
  const auto first = static_cast<int32_t>(to.size());
  to.insert(to.end(), from.begin() + begin, from.end());
  return {first, static_cast<int32_t>(to.size())};
}

// Plans the next `count` tokens of a sequence; logits are wanted from position `rows_from` on.
inline void AddChunk(TestSequence& s, int32_t count, int32_t rows_from, const KvLayout& layout, TestPages& pages,
                     StepPlan& plan) {
  PlannedChunk chunk;
  chunk.sequence = s.id;
  chunk.slot = s.slot;
  chunk.position = s.done;
  chunk.write_from = s.write_from;
  chunk.window_from = s.window_from;
  const int32_t end = s.done + count, page = layout.window.page_tokens;
  chunk.tokens = AppendRange(plan.tokens, std::vector<int32_t>(s.tokens.begin() + s.done, s.tokens.begin() + end));
  while (static_cast<int32_t>(s.global.size()) * layout.global.page_tokens < end)
    s.global.push_back(pages.Take(KvClass::kGlobal));
  chunk.global_first = s.planned;
  chunk.global_pages = AppendRange(plan.global_pages, s.global, s.planned);
  s.planned = static_cast<int32_t>(s.global.size());
  const int32_t first = std::max(s.window_from, s.done - layout.window.window + 1) / page;
  if (s.window.empty()) s.window_first = first;
  for (; s.window_first < first; ++s.window_first) {
    pages.Put(KvClass::kWindow, s.window.front());
    s.window.erase(s.window.begin());
  }
  while ((s.window_first + static_cast<int32_t>(s.window.size())) * page < end)
    s.window.push_back(pages.Take(KvClass::kWindow));
  chunk.window_first_page = s.window_first;
  chunk.window_pages = AppendRange(plan.window_pages, s.window);
  chunk.rows.begin = static_cast<int32_t>(plan.rows.size());
  for (int32_t p = std::max(s.done, rows_from); p < end; ++p) plan.logit_rows.push_back(p - s.done);
  plan.rows.resize(plan.logit_rows.size());
  chunk.rows.end = static_cast<int32_t>(plan.rows.size());
  plan.chunks.push_back(chunk);
  s.done = end;
}

// The logits of a step's rows, on the host.
inline std::vector<float> RunStep(ModelRunner& runner, const StepPlan& plan, int32_t vocab) {
  const absl::Status status = runner.Forward(plan);
  EXPECT_TRUE(status.ok()) << status;
  std::vector<float> out;
  for (int32_t row = 0; status.ok() && row < runner.num_logit_rows(); row += runner.logit_slice()) {
    const int32_t count = std::min(runner.logit_slice(), runner.num_logit_rows() - row);
    const float* logits = runner.Logits(row, count);
    out.insert(out.end(), logits, logits + int64_t{count} * vocab);
  }
  runner.Finish();
  return out;
}

}  // namespace hysparse
