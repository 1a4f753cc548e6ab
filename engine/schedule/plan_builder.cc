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

template <typename Entries, typename Entry>
PlanRange Append(const Entries& entries, std::vector<Entry>& array) {
  const auto begin = static_cast<int32_t>(array.size());
  array.insert(array.end(), entries.begin(), entries.end());
  return {begin, static_cast<int32_t>(array.size())};
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
  PlanRange history = Append(sequence.history(), plan.history);
  if (sequence.row_in_flight() >= 0 && sequence.has_penalties()) {
    plan.history.push_back({kSampledToken, 0, 1});
    ++history.end;
  }
  row.history_begin = history.begin;
  row.history_end = history.end;
  if (sequence.stops_banned()) {
    const PlanRange banned = Append(sequence.shared()->stop_ids, plan.banned);
    row.banned_begin = banned.begin;
    row.banned_end = banned.end;
  }
  return row;
}

}  // namespace

void AppendChunk(Sequence& sequence, int32_t count, StepPlan& plan) {
  PlannedChunk chunk;
  chunk.sequence = sequence.id();
  const SequenceKv& kv = *sequence.kv();
  chunk.slot = kv.slot();
  chunk.position = kv.num_tokens();
  chunk.write_from = kv.write_from();
  chunk.window_from = kv.window_from();
  chunk.input_row = sequence.row_in_flight();
  chunk.tokens.begin = static_cast<int32_t>(plan.tokens.size());
  chunk.rows.begin = static_cast<int32_t>(plan.rows.size());
  const int32_t known = sequence.num_tokens(), last = sequence.planned_tokens() - 1;
  int32_t sampled = -1;
  for (int32_t i = 0; i < count; ++i) {
    const int32_t position = chunk.position + i, next = position + 1;
    plan.tokens.push_back(position < known ? sequence.token(position) : kSampledToken);
    if (position < chunk.write_from) continue;
    if (next < sequence.prompt_tokens() && sequence.scores_prompt() && next >= sequence.next_scored()) {
      plan.rows.push_back(ScoreRow(sequence, next));
      sequence.set_next_scored(next + 1);
    } else if (position == last && next >= sequence.prompt_tokens()) {
      sampled = static_cast<int32_t>(plan.rows.size());
      plan.rows.push_back(DrawRow(sequence, next, plan));
    } else {
      continue;
    }
    plan.logit_rows.push_back(i);
  }
  chunk.tokens.end = static_cast<int32_t>(plan.tokens.size());
  chunk.rows.end = static_cast<int32_t>(plan.rows.size());
  sequence.Planned(plan.step, sampled);
  plan.chunks.push_back(chunk);
}

void AppendTables(SequenceKv& kv, PlannedChunk& chunk, StepPlan& plan) {
  chunk.global_first = kv.sent_pages();
  chunk.global_pages = Append(kv.global().pages().subspan(static_cast<size_t>(kv.sent_pages())), plan.global_pages);
  chunk.window_first_page = kv.window().first_page();
  chunk.window_pages = Append(kv.window().pages(), plan.window_pages);
  kv.MarkSent();
}

}  // namespace hysparse
