// Generation: a request for text as every front end (HTTP, gRPC) hands it on: checked, tokenised, ready for the engine.
//
//   GenerationSpec spec = …;                                          // the front end's own parsing: types only
//   HYSPARSE_RETURN_IF_ERROR(CheckRanges(spec, limits));              // every number, before anything is allocated
//   HYSPARSE_ASSIGN_OR_RETURN(Generation g, Prepare(model, spec, id)) // template, tokeniser, context length
//   StreamSession::Start(model, std::move(g), consumer, …)
//
// Worker threads; never the engine's. Field names in errors are the OpenAI API's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/request.h"
#include "server/chat/chat_template.h"
#include "server/served_model.h"
#include "server/server_options.h"

namespace hysparse {

// The most that a request may say of tokens to make; the context sets narrower limits.
constexpr int32_t kMaxTokens = 1 << 28;

// Text (special tokens are recognised), token ids, or messages for the chat template.
using Prompt = std::variant<std::string, std::vector<int32_t>, ChatTemplateInput>;

struct GenerationSpec {
  std::vector<Prompt> prompts;  // choice index = prompt * n + i
  SamplingParams sampling;      // starts as SamplingDefaults(model)
  std::optional<uint64_t> seed;
  std::optional<int32_t> max_tokens;  // unset: what the context leaves, at most `default_max_tokens`
  std::optional<int32_t> default_max_tokens;
  int32_t min_tokens = 0;
  int32_t n = 1;
  int32_t best_of = 1;  // sequences made per prompt, >= n; the front end picks n of them
  bool ignore_eos = false;
  std::vector<int32_t> stop_token_ids;
  std::vector<std::string> stop;
  bool logprobs = false;
  int32_t top_logprobs = 0;
  bool echo = false;  // the prompt's text (and, with logprobs, its log probabilities) comes first
  int32_t priority = 0;
  std::string cache_salt;
};

struct GenerationLimits {
  int32_t vocab = 0;
  int max_choices = 128;
  int max_stop_strings = 64;
  size_t max_stop_bytes = 1024;
};

// A Generation is one engine request per prompt. Choices are numbered prompt * choices_per_prompt + i.
struct Generation {
  std::vector<GenerateRequest> requests;
  std::vector<std::string> echo;  // per prompt: its text, when asked for
  std::vector<std::string> stop;
  bool want_logprobs = false;
  int32_t choices_per_prompt = 1;
};

// generation_config.json's values over the API's.
SamplingParams SamplingDefaults(const ModelSpec& spec);

absl::Status CheckRanges(const GenerationSpec& spec, const GenerationLimits& limits);

absl::StatusOr<std::vector<int32_t>> EncodePrompt(const ServedModel& model, const Prompt& prompt,
                                                  bool add_special_tokens);

// `id` names the generation in logs and metrics; it must be unique.
absl::StatusOr<Generation> Prepare(const ServedModel& model, const GenerationSpec& spec, const std::string& id);

}  // namespace hysparse
