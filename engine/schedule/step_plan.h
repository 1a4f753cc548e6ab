// StepPlan: what one forward pass computes, as plain data: no pointers into the scheduler, so that it can be broadcast
// to ranks and, later, be made one step ahead.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/request.h"
#include "kernels/params.h"

namespace hysparse {

// A chunk of one sequence: `tokens` sit at positions position … position + tokens.size() - 1.
struct PlannedChunk {
  int64_t sequence = 0;  // engine-wide sequence id
  std::vector<int32_t> tokens;
  int32_t position = 0;
  std::vector<int32_t> global_pages;  // every page of the sequence, logical order
  std::vector<int32_t> window_pages;  // pages window_first_page …
  int32_t window_first_page = 0;
  // Rows of this chunk whose logits are wanted, as indexes into `tokens`; sampled or scored as `rows` says.
  std::vector<int32_t> logit_rows;
  std::vector<SampleRow> rows;  // one per logit row; its ranges index the plan's arrays
};

struct StepPlan {
  uint64_t step = 0;
  std::vector<PlannedChunk> chunks;
  std::vector<TokenBias> bias;
  std::vector<TokenCount> history;
  std::vector<int32_t> banned;

  int32_t num_tokens() const {
    size_t n = 0;
    for (const PlannedChunk& chunk : chunks) n += chunk.tokens.size();
    return static_cast<int32_t>(n);
  }
};

// Results of the plan's logit rows, in order of chunk and row.
struct StepResult {
  std::vector<int32_t> token;
  std::vector<float> logprob;
  std::vector<std::vector<TokenLogprob>> top_logprobs;
};

}  // namespace hysparse
