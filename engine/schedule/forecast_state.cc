#include "engine/schedule/forecast_state.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace hysparse {

ForecastState::ForecastState(const ForecastInput& in)
    : in_(in),
      page_tokens_(std::max(1, in.layout.global.page_tokens)),
      global_spare_(static_cast<double>(in.room.global_spare)),
      window_spare_(static_cast<double>(in.room.window_spare)) {
  jobs_.reserve(in.running.size() + in.spilled.size() + static_cast<size_t>(in.options.max_num_seqs));
  alongside_ = static_cast<int64_t>(in.running.size());
  for (const ForecastSequence& sequence : in.running) {
    const size_t at = NewJob(sequence);
    jobs_[at].global = static_cast<double>(sequence.pages.global);
    jobs_[at].window = static_cast<double>(sequence.pages.window);
    Begin(at);
  }
  alongside_ = 0;
  for (const ForecastSequence& sequence : in.spilled) spilled_.push_back(NewJob(sequence));
}

size_t ForecastState::NewJob(const ForecastSequence& sequence) {
  size_t at = jobs_.size();
  if (free_jobs_.empty()) {
    jobs_.emplace_back();
  } else {
    at = free_jobs_.back();
    free_jobs_.pop_back();
  }
  Job job;
  job.turn = jobs_[at].turn;
  job.sequence = sequence;
  job.cost_left = in_.options.cost.Of(sequence.kv_tokens, sequence.prefill_left);
  job.token_cost = job.cost_left / std::max(1, sequence.prefill_left);
  job.decodes_left = DecodesLeft(sequence);
  jobs_[at] = job;
  return at;
}

int64_t ForecastState::DecodesLeft(const ForecastSequence& s) const {
  const double most = s.max_tokens - s.output_tokens;
  const double whole = in_.length_ratio * s.max_tokens - s.output_tokens;
  const double expected = whole > 0 ? whole : in_.length_ratio * most;
  const int64_t tokens = most > 0 ? std::clamp<int64_t>(std::llround(expected), 1, static_cast<int64_t>(most)) : 0;
  return s.prefill_left > 0 ? std::max<int64_t>(0, tokens - 1) : tokens;  // a prefill's last step samples the first
}

// For the tokens that it has and its output reserve.
PageNeed ForecastState::NeedOfReserve(const ForecastSequence& s) const {
  const int64_t known = int64_t{s.kv_tokens} + s.prefill_left;
  const int64_t most = std::max(known, known - s.output_tokens + s.max_tokens - 1);
  const int32_t reserve = OutputReserve(in_.options, std::max(0, s.max_tokens - s.output_tokens), s.preempted);
  return NeedOf(in_.layout, std::min(most, known + reserve));
}

KvRoom ForecastState::Room() const {
  KvRoom room = in_.room;
  room.global_spare = static_cast<int64_t>(std::floor(global_spare_));
  room.window_spare = static_cast<int64_t>(std::floor(window_spare_));
  return room;
}

void ForecastState::Claim(Job& job, const PageNeed& need) {
  job.global = static_cast<double>(need.global);
  job.window = static_cast<double>(need.window);
  global_spare_ -= job.global;
  window_spare_ -= job.window;
}

// What it needs is claimed.
void ForecastState::Begin(size_t at) {
  ++running_;
  Job& job = jobs_[at];
  job.running = true;
  if (job.cost_left <= kLeastCost) return BeginDecode(at);
  const auto shorter = [&](size_t a, size_t b) { return jobs_[a].cost_left < jobs_[b].cost_left; };
  prefills_.insert(std::upper_bound(prefills_.begin(), prefills_.end(), at, shorter), at);
  oldest_.push({job.sequence.id, at, job.turn});
}

void ForecastState::BeginDecode(size_t at) {
  Job& job = jobs_[at];
  job.sequence.kv_tokens += std::exchange(job.sequence.prefill_left, 0);
  job.cost_left = 0;
  if (job.is_new) done_ = true;
  ++job.turn;
  // The last token is known one plan late, unless there was no other work to plan.
  job.start = step_;
  job.end = step_ + job.decodes_left + (std::max(running_, alongside_) > 1 ? 1 : 0);
  ends_.push({job.end, at, job.turn});
  ++decodes_;
  depth_ += job.sequence.kv_tokens;
  const double beyond = job.global * page_tokens_ - job.sequence.kv_tokens;
  if (in_.layout.global.layers > 0 && beyond < static_cast<double>(job.decodes_left)) {
    job.promised_until = step_ + std::max<int64_t>(0, static_cast<int64_t>(beyond));
    growth_.push({job.promised_until, at, job.turn});
  }
}

// It lets go of all that it holds.
void ForecastState::Stop(size_t at) {
  Job& job = jobs_[at];
  ++job.turn;
  --running_;
  job.running = false;
  global_spare_ += job.global;
  window_spare_ += job.window;
  if (job.end == kNever) {
    std::erase(prefills_, at);
    return;
  }
  --decodes_;
  depth_ -= static_cast<double>(job.sequence.kv_tokens + step_ - job.start);
  if (!std::exchange(job.growing, false)) return;
  --growing_;
  global_spare_ += static_cast<double>(step_ - job.promised_until) / page_tokens_;
}

}  // namespace hysparse
