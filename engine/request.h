// What a client asks of the engine and what it gets back. Plain data; built on front-end threads, read by the engine's.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace hysparse {

struct SamplingParams {
  float temperature = 1.0f;  // 0: greedy
  int32_t top_k = 0;         // 0: off
  float top_p = 1.0f, min_p = 0.0f;
  float presence_penalty = 0.0f, frequency_penalty = 0.0f, repetition_penalty = 1.0f;
  std::vector<std::pair<int32_t, float>> logit_bias;
  uint64_t seed = 0;  // always set: the front end draws one when the client gives none
};

struct GenerateRequest {
  std::string id;               // unique; also the x-request-id
  std::vector<int32_t> prompt;  // 1 … max_context ids, each in [0, vocab)
  int32_t max_tokens = 16;      // 0: nothing is generated; with prompt_logprobs the prompt is scored; ends with kLength
  int32_t min_tokens = 0;
  int32_t n = 1;  // choices; the prompt is prefilled once per choice until KV residency brings sharing
  bool ignore_eos = false;
  std::vector<int32_t> stop_token_ids;  // the model's own are added by the engine unless ignore_eos
  SamplingParams sampling;
  bool logprobs = false;
  int32_t top_logprobs = 0;      // 0 … 20
  bool prompt_logprobs = false;  // echo: score the prompt's tokens too
  int32_t priority = 0;
  std::string cache_salt;
};

enum class FinishReason : uint8_t { kNone, kStop, kLength, kCancelled, kError };

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;
};

// One token of one choice.
struct TokenOutput {
  int32_t token = 0;
  float logprob = 0;                       // when asked for
  std::vector<TokenLogprob> top_logprobs;  // highest first
};

// What one step did for one choice. Delivered in order; the last one carries `finish`.
struct StepOutput {
  int32_t choice = 0;
  std::vector<TokenOutput> prompt;  // prompt_logprobs: tokens 1 … as they are scored (token 0 has none), choice 0 only
  std::vector<TokenOutput> tokens;
  FinishReason finish = FinishReason::kNone;
  int32_t reused_tokens = 0;  // of the prompt: found in the prefix cache and not computed
  int32_t stop_token = -1;    // the stop id that ended it, which `tokens` does not hold; -1: none
  absl::Status error;         // with kError
};

// Receives a request's outputs. OnOutput is called on the engine thread and must only hand over (post, enqueue): it
// never blocks, tokenises or does I/O. The engine drops its reference after the last choice's `finish`.
class OutputSink {
 public:
  virtual ~OutputSink() = default;
  virtual void OnOutput(StepOutput output) = 0;
};

}  // namespace hysparse
