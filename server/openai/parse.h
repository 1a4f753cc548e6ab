// Request bodies → typed calls. Every error is an InvalidArgument that names the field (a 400). Pure functions; worker
// threads. Precedence of values: the request, then `defaults` (generation_config.json), then the API's.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "engine/request.h"
#include "server/openai/types.h"

namespace hysparse::openai {

absl::StatusOr<CompletionCall> ParseChat(const std::string& body, const SamplingParams& defaults);
absl::StatusOr<CompletionCall> ParseCompletion(const std::string& body, const SamplingParams& defaults);
absl::StatusOr<CapacityCall> ParseCapacity(const std::string& body);
absl::StatusOr<TokenizeCall> ParseTokenize(const std::string& body);
absl::StatusOr<DetokenizeCall> ParseDetokenize(const std::string& body);

}  // namespace hysparse::openai
