// Forecast: when a new request would be admitted and have its first token, from a snapshot of the scheduler's state as
// plain data. A simulation by the scheduler's own rules (scheduler.h) that goes from event to event (a prefill or an
// answer ends, the KV cache is full) and not from step to step: O((running + waiting) log running). Pure function; no
// clock, any thread.
//
// What it assumes:
// - Nobody else arrives, cancels or is preempted to be computed again.
// - An answer has max_tokens tokens times `length_ratio`, which the engine learns (step_clock.h).
// - Of the prefix cache it knows what `kv_tokens` says of those that wait; nothing, for the new request.
// - Between two events all steps do the same work; window pages stay as promised.
// - Plans run one step ahead: what a step ends is seen by the plan after the next.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/kv/residency.h"
#include "engine/kv/room.h"
#include "engine/schedule/scheduler.h"
#include "engine/schedule/step_clock.h"

namespace hysparse {

struct ForecastSequence {
  int64_t id = 0;             // order of arrival
  int64_t queue_key = 0;      // of one that waits: Sequence::schedule
  int32_t kv_tokens = 0;      // in its KV, or that it will find in the prefix cache
  int32_t prefill_left = 0;   // tokens to compute before the next is sampled; 0: it decodes
  int32_t output_tokens = 0;  // planned ones included
  int32_t max_tokens = 0;
  int32_t preempted = 0;  // times
  PageNeed pages;         // held or promised; of one that runs
};

struct ForecastInput {
  std::vector<ForecastSequence> running, spilled, waiting;  // waiting: in the queue's order
  KvRoom room;
  KvLayout layout;
  SchedulerOptions options;
  StepRates rates;
  double length_ratio = 1;
  int64_t next_id = 0;  // of the new request
  StepWork under_way;   // of the step that was launched last and is not done; all 0: none
};

struct Forecast {
  bool at_once = false;                          // the next plan admits it
  int64_t ahead = 0;                             // of those that wait, how many stand before it
  int64_t ahead_tokens = 0;                      // their tokens to prefill
  std::optional<double> start_s, first_token_s;  // from now; unset: no step has been measured yet
};

// `prompt_tokens` >= 1, `max_tokens` >= 0, and the sequence fits into the empty cache.
Forecast MakeForecast(const ForecastInput& input, int32_t prompt_tokens, int32_t max_tokens, int32_t priority = 0);

}  // namespace hysparse
