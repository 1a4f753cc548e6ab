// What the capacity quote says of a request of some size: whether it would run now, what it would keep, how many like
// it fit, and when it would start. Plain data.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "engine/kv/residency.h"

namespace hysparse {

// What a quote is made from: the scheduler's state at the head of a step (schedule/forecast.h).
struct ForecastInput;
using SnapshotPtr = std::shared_ptr<const ForecastInput>;

enum class Verdict : uint8_t {
  kAdmit,   // the next plan would admit it
  kQueue,   // it would wait
  kRefuse,  // Submit would refuse it: beyond the context or the KV cache, or the queue is full
};

struct QuoteResult {
  Verdict verdict = Verdict::kAdmit;
  std::string reason;  // of a refusal, with the numbers
  int64_t prompt_tokens = 0, max_tokens = 0;
  // Whole pages that hold prompt and answer at its end; the last token is never written. Admission asks for less: a
  // promise for the prompt and min(max_tokens, output_reserve) tokens.
  KvBytes kv_bytes;
  int64_t sessions_now = 0, sessions_empty = 0;  // of that size, to their ends: beside what runs; in an empty cache
  int64_t ahead = 0, ahead_tokens = 0;           // sequences that wait and stand before it; their tokens to prefill
  // From now, by schedule/forecast.h, whose header says what is assumed. Unset: refused, or no step was measured yet.
  std::optional<double> start_s, first_token_s;
};

}  // namespace hysparse
