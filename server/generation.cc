#include "server/generation.h"

#include <cmath>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/result.h"
#include "server/error_map.h"

namespace hysparse {
namespace {

constexpr int32_t kMaxLogitBias = 4096, kMaxStopTokenIds = 1024, kMaxTopLogprobs = 20;
constexpr size_t kMaxPrompts = 1024, kMaxSaltBytes = 256;
// Log probabilities that one request may have in memory: choices × tokens × alternatives.
constexpr int64_t kLogprobBudget = 4 << 20;

absl::Status OutsideOf(const char* field, double low, double high, double value) {
  return BadField(field, absl::StrCat("must lie in [", low, ", ", high, "], not ", value));
}

// False for NaN too.
bool Within(double value, double low, double high) { return value >= low && value <= high; }

struct NumberRange {
  const char* field;
  double value, low, high;
};

absl::Status CheckNumbers(const GenerationSpec& spec, const GenerationLimits& limits) {
  const SamplingParams& s = spec.sampling;
  const NumberRange ranges[] = {
      {"temperature", s.temperature, 0, 2},
      {"top_p", s.top_p, 0, 1},
      {"min_p", s.min_p, 0, 1},
      {"top_k", static_cast<double>(s.top_k), 0, 1 << 30},
      {"presence_penalty", s.presence_penalty, -2, 2},
      {"frequency_penalty", s.frequency_penalty, -2, 2},
      {"repetition_penalty", s.repetition_penalty, 0.01, 100},
      {"n", static_cast<double>(spec.n), 1, static_cast<double>(limits.max_choices)},
      {"best_of", static_cast<double>(spec.best_of), 1, static_cast<double>(limits.max_choices)},
      {"top_logprobs", static_cast<double>(spec.top_logprobs), 0, kMaxTopLogprobs},
      {"min_tokens", static_cast<double>(spec.min_tokens), 0, kMaxTokens},
      {"max_tokens", static_cast<double>(spec.max_tokens.value_or(1)), spec.echo ? 0.0 : 1.0, kMaxTokens},
  };
  for (const NumberRange& r : ranges) {
    if (!Within(r.value, r.low, r.high)) return OutsideOf(r.field, r.low, r.high, r.value);
  }
  if (spec.best_of < spec.n) return BadField("best_of", "must not be smaller than n");
  if (spec.max_tokens && spec.min_tokens > *spec.max_tokens) {
    return BadField("min_tokens", absl::StrCat("must not exceed max_tokens, which is ", *spec.max_tokens));
  }
  const size_t choices = spec.prompts.size() * static_cast<size_t>(spec.best_of);
  if (spec.prompts.size() > kMaxPrompts || choices > static_cast<size_t>(limits.max_choices)) {
    return BadField("prompt",
                    absl::StrCat("asks for ", choices, " choices in one request; the limit is ", limits.max_choices));
  }
  return absl::OkStatus();
}

absl::Status CheckId(const char* field, int64_t id, int32_t vocab) {
  if (id >= 0 && id < vocab) return absl::OkStatus();
  return BadField(field, absl::StrCat("holds token id ", id, ", which is outside the vocabulary [0, ", vocab, ")"));
}

absl::Status CheckIds(const GenerationSpec& spec, const GenerationLimits& limits) {
  if (spec.sampling.logit_bias.size() > kMaxLogitBias) {
    return BadField("logit_bias", absl::StrCat("has more than ", kMaxLogitBias, " entries"));
  }
  for (const auto& [id, bias] : spec.sampling.logit_bias) {
    HYSPARSE_RETURN_IF_ERROR(CheckId("logit_bias", id, limits.vocab));
    if (!Within(bias, -100, 100)) return OutsideOf("logit_bias", -100, 100, bias);
  }
  if (spec.stop_token_ids.size() > kMaxStopTokenIds) {
    return BadField("stop_token_ids", absl::StrCat("has more than ", kMaxStopTokenIds, " entries"));
  }
  for (int32_t id : spec.stop_token_ids) HYSPARSE_RETURN_IF_ERROR(CheckId("stop_token_ids", id, limits.vocab));
  for (const Prompt& prompt : spec.prompts) {
    const auto* ids = std::get_if<std::vector<int32_t>>(&prompt);
    if (ids == nullptr) continue;
    if (ids->empty()) return BadField("prompt", "has no token ids");
    for (int32_t id : *ids) HYSPARSE_RETURN_IF_ERROR(CheckId("prompt", id, limits.vocab));
  }
  return absl::OkStatus();
}

absl::Status CheckStops(const GenerationSpec& spec, const GenerationLimits& limits) {
  if (spec.stop.size() > static_cast<size_t>(limits.max_stop_strings)) {
    return BadField("stop", absl::StrCat("has ", spec.stop.size(), " strings; the limit is ", limits.max_stop_strings));
  }
  for (const std::string& stop : spec.stop) {
    if (stop.empty()) return BadField("stop", "must not hold an empty string");
    if (stop.size() > limits.max_stop_bytes) {
      return BadField("stop", absl::StrCat("has a string of more than ", limits.max_stop_bytes, " bytes"));
    }
  }
  return absl::OkStatus();
}

// Tokens to make: the request's figure if it fits, else what the context leaves under the default.
absl::StatusOr<int32_t> ResolveMaxTokens(const GenerationSpec& spec, int64_t prompt, int32_t max_model_len, bool chat) {
  const char* field = chat ? "messages" : "prompt";
  const int64_t room = max_model_len - prompt;
  if (spec.max_tokens) {
    if (*spec.max_tokens <= room) return *spec.max_tokens;
    return ContextLengthExceeded(field, max_model_len, prompt, room > 0 ? *spec.max_tokens : 0);
  }
  if (room < 1) return ContextLengthExceeded(field, max_model_len, prompt, 0);
  return static_cast<int32_t>(std::min<int64_t>(room, spec.default_max_tokens.value_or(max_model_len)));
}

uint64_t RandomSeed() {
  thread_local std::mt19937_64 generator{std::random_device{}() * uint64_t{0x9E3779B97F4A7C15} +
                                         std::random_device{}()};
  return generator();
}

}  // namespace

SamplingParams SamplingDefaults(const ModelSpec& spec) {
  SamplingParams sampling;
  sampling.temperature = spec.defaults.temperature;
  sampling.top_k = spec.defaults.top_k;
  sampling.top_p = spec.defaults.top_p;
  sampling.min_p = spec.defaults.min_p;
  sampling.repetition_penalty = spec.defaults.repetition_penalty;
  return sampling;
}

absl::Status CheckRanges(const GenerationSpec& spec, const GenerationLimits& limits) {
  if (spec.prompts.empty()) return BadField("prompt", "must not be empty");
  if (spec.cache_salt.size() > kMaxSaltBytes) {
    return BadField("cache_salt", absl::StrCat("is longer than ", kMaxSaltBytes, " bytes"));
  }
  HYSPARSE_RETURN_IF_ERROR(CheckNumbers(spec, limits));
  HYSPARSE_RETURN_IF_ERROR(CheckIds(spec, limits));
  return CheckStops(spec, limits);
}

absl::StatusOr<std::vector<int32_t>> EncodePrompt(const ServedModel& model, const Prompt& prompt,
                                                  bool add_special_tokens) {
  if (const auto* ids = std::get_if<std::vector<int32_t>>(&prompt)) return *ids;
  if (const auto* text = std::get_if<std::string>(&prompt)) {
    HYSPARSE_ASSIGN_OR_RETURN(std::vector<int32_t> ids, model.tokenizer->Encode(*text, add_special_tokens));
    return ids;
  }
  if (model.chat_template == nullptr) {
    return BadField("messages", "cannot be used: this model has no chat template; use /v1/completions");
  }
  // The template writes the special tokens itself: adding the post-processor's would give a second BOS.
  HYSPARSE_ASSIGN_OR_RETURN(std::vector<TextSegment> segments,
                            model.chat_template->Render(std::get<ChatTemplateInput>(prompt)));
  return model.tokenizer->EncodeSegments(segments);
}

absl::StatusOr<Generation> Prepare(const ServedModel& model, const GenerationSpec& spec, const std::string& id) {
  Generation generation;
  generation.stop = spec.stop;
  generation.want_logprobs = spec.logprobs || spec.best_of > spec.n;  // best_of chooses by them
  generation.choices_per_prompt = spec.best_of;
  SamplingParams sampling = spec.sampling;
  sampling.seed = spec.seed.value_or(RandomSeed());
  for (const Prompt& prompt : spec.prompts) {
    const bool chat = std::holds_alternative<ChatTemplateInput>(prompt);
    GenerateRequest request;
    HYSPARSE_ASSIGN_OR_RETURN(request.prompt, EncodePrompt(model, prompt, /*add_special_tokens=*/true));
    if (request.prompt.empty()) return BadField(chat ? "messages" : "prompt", "has no tokens");
    // A tokenizer may know ids that the model has no row for.
    for (int32_t token : request.prompt)
      HYSPARSE_RETURN_IF_ERROR(CheckId(chat ? "messages" : "prompt", token, model.spec.vocab));
    HYSPARSE_ASSIGN_OR_RETURN(request.max_tokens, ResolveMaxTokens(spec, static_cast<int64_t>(request.prompt.size()),
                                                                   model.max_model_len, chat));
    const int64_t entries = int64_t{spec.best_of} * (1 + spec.top_logprobs) *
                            (request.max_tokens + (spec.echo ? static_cast<int64_t>(request.prompt.size()) : 0));
    if (spec.logprobs && entries * static_cast<int64_t>(spec.prompts.size()) > kLogprobBudget) {
      return BadField("logprobs",
                      absl::StrCat("would need ", entries, " log probabilities; the limit is ", kLogprobBudget,
                                   ": set max_tokens, or ask for fewer choices or alternatives"));
    }
    request.id = spec.prompts.size() == 1 ? id : absl::StrCat(id, "-", generation.requests.size());
    request.min_tokens = std::min(spec.min_tokens, request.max_tokens);
    request.n = spec.best_of;
    request.ignore_eos = spec.ignore_eos;
    request.stop_token_ids = spec.stop_token_ids;
    request.sampling = sampling;
    request.logprobs = generation.want_logprobs;
    request.top_logprobs = spec.logprobs ? spec.top_logprobs : 0;
    request.prompt_logprobs = spec.echo && (spec.logprobs || request.max_tokens == 0);
    request.priority = spec.priority;
    request.cache_salt = spec.cache_salt;
    if (spec.echo) {
      const auto* text = std::get_if<std::string>(&prompt);
      generation.echo.push_back(text != nullptr ? *text : model.tokenizer->Decode(request.prompt, false));
    }
    generation.requests.push_back(std::move(request));
  }
  return generation;
}

}  // namespace hysparse
