#include "engine/schedule/plan_builder.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace hysparse {
namespace {

// The row that scores the prompt's token at `position`.
SampleRow ScoreRow(const Sequence& sequence, int32_t position) {
  SampleRow row;
  row.target = sequence.token(position);
  row.position = static_cast<uint32_t>(position);
  row.want_logprob = true;
  row.num_top_logprobs = sequence.request().top_logprobs;
  return row;
}

// Appends `entries` to a plan's array and notes the range in the row.
template <typename Entry>
void AppendRange(const std::vector<Entry>& entries, std::vector<Entry>& array, int32_t& begin, int32_t& end) {
  begin = static_cast<int32_t>(array.size());
  array.insert(array.end(), entries.begin(), entries.end());
  end = static_cast<int32_t>(array.size());
}

// The row that samples the token at `position`.
SampleRow DrawRow(const Sequence& sequence, int32_t position, StepPlan& plan) {
  const GenerateRequest& request = sequence.request();
  const SamplingParams& sampling = request.sampling;
  SampleRow row;
  row.temperature = sampling.temperature;
  row.top_k = sampling.top_k;
  row.top_p = sampling.top_p;
  row.min_p = sampling.min_p;
  row.presence_penalty = sampling.presence_penalty;
  row.frequency_penalty = sampling.frequency_penalty;
  row.repetition_penalty = sampling.repetition_penalty;
  row.seed = sampling.seed;
  row.choice = static_cast<uint32_t>(sequence.choice());
  row.position = static_cast<uint32_t>(position);
  row.want_logprob = request.logprobs;
  row.num_top_logprobs = request.logprobs ? request.top_logprobs : 0;

  row.bias_begin = static_cast<int32_t>(plan.bias.size());
  for (const auto& [token, bias] : sampling.logit_bias) plan.bias.push_back({token, bias});
  row.bias_end = static_cast<int32_t>(plan.bias.size());
  AppendRange(sequence.history(), plan.history, row.history_begin, row.history_end);
  if (sequence.stops_banned()) {
    AppendRange(sequence.shared()->stop_ids, plan.banned, row.banned_begin, row.banned_end);
  }
  return row;
}

}  // namespace

void AppendChunk(const Sequence& sequence, int32_t count, StepPlan& plan) {
  PlannedChunk chunk;
  chunk.sequence = sequence.id();
  chunk.position = sequence.computed_tokens();
  const std::span<const int32_t> global = sequence.kv()->global().pages(), window = sequence.kv()->window().pages();
  chunk.global_pages.assign(global.begin(), global.end());
  chunk.window_pages.assign(window.begin(), window.end());
  chunk.window_first_page = sequence.kv()->window().first_page();

  chunk.tokens.reserve(count);
  for (int32_t i = 0; i < count; ++i) {
    const int32_t position = chunk.position + i, next = position + 1;
    chunk.tokens.push_back(sequence.token(position));
    if (next < sequence.prompt_tokens()) {
      if (!sequence.scores_prompt()) continue;
      chunk.rows.push_back(ScoreRow(sequence, next));
    } else {
      chunk.rows.push_back(DrawRow(sequence, next, plan));
    }
    chunk.logit_rows.push_back(i);
  }
  plan.chunks.push_back(std::move(chunk));
}

}  // namespace hysparse
