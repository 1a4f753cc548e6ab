#include "engine/sequence.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace hysparse {

Sequence::Sequence(int64_t id, std::shared_ptr<RequestState> request, int32_t choice)
    : id_(id), request_(std::move(request)), choice_(choice) {}

void Sequence::Admit(std::unique_ptr<SequenceKv> kv) {
  assert(state_ == SequenceState::kWaiting);
  state_ = SequenceState::kPrefill;
  kv_ = std::move(kv);
  // Counted at the first admission and not in the queue, where a thousand long prompts may lie.
  if (!schedule.admitted && request().sampling.repetition_penalty != 1.0f) {
    for (int32_t token : request().prompt) Count(token, /*in_prompt=*/true);
  }
  schedule.admitted = true;
}

void Sequence::Planned(uint64_t step, int32_t sampled_row) {
  row_in_flight_ = sampled_row;  // the one before, if any, is this chunk's input
  step_in_flight_ = step;
}

void Sequence::Settle() {
  kv_->EndAppend();
  if (state_ == SequenceState::kPrefill && planned_kv() >= prompt_tokens() && pending_tokens() <= 1) {
    state_ = SequenceState::kDecode;
  }
}

FinishReason Sequence::Accept(uint64_t step, int32_t token) {
  assert(state_ != SequenceState::kFinished);
  if (step == step_in_flight_) row_in_flight_ = -1;
  output_.push_back(token);
  if (has_penalties()) Count(token, /*in_prompt=*/false);
  const std::vector<int32_t>& stops = request_->stop_ids;
  if (std::binary_search(stops.begin(), stops.end(), token)) return FinishReason::kStop;
  return output_tokens() >= request().max_tokens ? FinishReason::kLength : FinishReason::kNone;
}

void Sequence::Preempt() {
  assert(state_ == SequenceState::kPrefill || state_ == SequenceState::kDecode);
  state_ = SequenceState::kWaiting;
  kv_.reset();
  computed_tokens_ = 0;
}

void Sequence::Finish(FinishReason reason) {
  assert(state_ != SequenceState::kFinished);
  state_ = SequenceState::kFinished;
  finish_ = reason;
  kv_.reset();
}

int32_t Sequence::token(int32_t position) const {
  const int32_t prompt = prompt_tokens();
  return position < prompt ? request().prompt[position] : output_[position - prompt];
}

int32_t Sequence::pending_tokens() const {
  if (request().max_tokens == 0) return scores_prompt() ? prompt_tokens() - 1 - planned_kv() : 0;
  const int32_t planned = planned_tokens();
  const bool complete = planned - prompt_tokens() >= request().max_tokens;
  return complete ? 0 : planned - planned_kv();
}

int64_t Sequence::max_kv_tokens() const { return int64_t{prompt_tokens()} + request().max_tokens - 1; }

bool Sequence::has_penalties() const {
  const SamplingParams& sampling = request().sampling;
  return sampling.repetition_penalty != 1.0f || sampling.presence_penalty != 0 || sampling.frequency_penalty != 0;
}

void Sequence::Count(int32_t token, bool in_prompt) {
  const auto [entry, added] = history_index_.try_emplace(token, static_cast<int32_t>(history_.size()));
  if (added) history_.push_back({token, 0, 0});
  TokenCount& count = history_[entry->second];
  ++(in_prompt ? count.prompt : count.output);
}

}  // namespace hysparse
