// The capacity quote as every front end asks for it: by a number of tokens, or by messages that are rendered and
// tokenised like a chat request. Worker threads: it may sleep for the rest of a step.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "engine/quote.h"
#include "server/generation.h"
#include "server/served_model.h"

namespace hysparse {

struct QuoteSpec {
  std::optional<int64_t> prompt_tokens;
  std::optional<Prompt> messages;     // the one or the other
  std::optional<int64_t> max_tokens;  // unset: what the context leaves, 1 at least
};

// InvalidArgument names the field.
absl::StatusOr<QuoteResult> QuoteFor(const ServedModel& model, const QuoteSpec& spec);

}  // namespace hysparse
