#include "engine/validate.h"

#include <cmath>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "engine/base/result.h"
#include "kernels/params.h"

namespace hysparse {
namespace {

absl::Status InRange(const char* name, double value, double low, double high) {
  if (value >= low && value <= high) return absl::OkStatus();  // false for NaN
  return absl::InvalidArgumentError(absl::StrCat(name, " must be in ", low, " … ", high, ", not ", value));
}

absl::Status ValidateSampling(const SamplingParams& sampling, int32_t vocab) {
  constexpr double kHuge = 1e30;
  HYSPARSE_RETURN_IF_ERROR(InRange("temperature", sampling.temperature, 0, kHuge));
  HYSPARSE_RETURN_IF_ERROR(InRange("top_k", sampling.top_k, 0, INT32_MAX));
  HYSPARSE_RETURN_IF_ERROR(InRange("top_p", sampling.top_p, 0, 1));
  HYSPARSE_RETURN_IF_ERROR(InRange("min_p", sampling.min_p, 0, 1));
  HYSPARSE_RETURN_IF_ERROR(InRange("presence_penalty", sampling.presence_penalty, -kHuge, kHuge));
  HYSPARSE_RETURN_IF_ERROR(InRange("frequency_penalty", sampling.frequency_penalty, -kHuge, kHuge));
  HYSPARSE_RETURN_IF_ERROR(InRange("repetition_penalty", sampling.repetition_penalty, 1e-6, 1e6));
  if (sampling.logit_bias.size() > static_cast<size_t>(vocab)) {
    return absl::InvalidArgumentError(absl::StrCat("logit_bias has more entries than the vocabulary's ", vocab));
  }
  for (const auto& [token, bias] : sampling.logit_bias) {
    HYSPARSE_RETURN_IF_ERROR(InRange("a token id of logit_bias", token, 0, vocab - 1));
    HYSPARSE_RETURN_IF_ERROR(InRange("a logit_bias", bias, -kHuge, kHuge));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateRequest(const GenerateRequest& request, const ModelSpec& spec, int32_t max_model_len) {
  if (request.prompt.empty()) return absl::InvalidArgumentError("the prompt is empty");
  const int64_t room = int64_t{max_model_len} - (request.max_tokens > 0 ? 1 : 0);
  if (static_cast<int64_t>(request.prompt.size()) > room) {
    return absl::InvalidArgumentError(absl::StrCat("This model's maximum context length is ", max_model_len,
                                                   " tokens. The prompt has ", request.prompt.size(),
                                                   " and max_tokens is ", request.max_tokens, "."));
  }
  for (int32_t token : request.prompt) {
    HYSPARSE_RETURN_IF_ERROR(InRange("a token id of the prompt", token, 0, spec.vocab - 1));
  }
  HYSPARSE_RETURN_IF_ERROR(InRange("max_tokens", request.max_tokens, 0, INT32_MAX));
  HYSPARSE_RETURN_IF_ERROR(InRange("min_tokens", request.min_tokens, 0, request.max_tokens));
  HYSPARSE_RETURN_IF_ERROR(InRange("top_logprobs", request.top_logprobs, 0, kMaxTopLogprobs));
  return ValidateSampling(request.sampling, spec.vocab);
}

}  // namespace hysparse
