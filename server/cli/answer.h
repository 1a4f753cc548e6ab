// Answer: one generation of one choice, run on an engine from the calling thread, its text handed over piece by piece.
// For the terminal and for tools that need no server.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "engine/request.h"
#include "server/generation.h"
#include "server/served_model.h"

namespace hysparse {

struct AnswerResult {
  std::string text;
  int32_t prompt_tokens = 0, tokens = 0;
  FinishReason finish = FinishReason::kNone;
  double prefill_s = 0, decode_s = 0;  // to the first token; from there to the last
};

struct AnswerHooks {
  std::function<void(const std::string&)> text;  // each piece, valid UTF-8
  std::function<bool()> stop;                    // asked some times a second: true cancels
};

// Blocks until the generation is over. Errors are those of Prepare and of the engine.
absl::StatusOr<AnswerResult> RunAnswer(const ServedModel& model, const GenerationSpec& spec, const AnswerHooks& hooks);

}  // namespace hysparse
