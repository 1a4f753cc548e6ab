#include "server/openai/parse.h"

#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/result.h"
#include "server/error_map.h"
#include "server/openai/parse_internal.h"

namespace hysparse::openai {
namespace {

constexpr int32_t kDefaultCompletionTokens = 16;

void ReadSampling(FieldReader& fields, GenerationSpec* spec) {
  SamplingParams& s = spec->sampling;
  fields.Read("temperature", &s.temperature);
  fields.Read("top_p", &s.top_p);
  fields.Read("min_p", &s.min_p);
  if (fields.Read("top_k", &s.top_k) && s.top_k == -1) s.top_k = 0;  // both mean off
  fields.Read("presence_penalty", &s.presence_penalty);
  fields.Read("frequency_penalty", &s.frequency_penalty);
  fields.Read("repetition_penalty", &s.repetition_penalty);
  if (const Json* seed = fields.Find("seed")) {
    if (seed->is_number_unsigned()) {
      spec->seed = seed->get<uint64_t>();
    } else if (const absl::StatusOr<int64_t> value = ToInteger(*seed, "seed"); value.ok()) {
      spec->seed = static_cast<uint64_t>(*value);
    } else {
      fields.Fail(value.status());
    }
  }
  const Json* bias = fields.Find("logit_bias");
  if (bias == nullptr) return;
  if (!bias->is_object()) return fields.Fail("logit_bias", "must be an object of token id: bias");
  for (const auto& [token, value] : bias->items()) {
    int32_t id = 0;
    if (!absl::SimpleAtoi(token, &id)) return fields.Fail("logit_bias", "has a key that is no token id");
    if (!value.is_number()) return fields.Fail("logit_bias", "has a value that is no number");
    s.logit_bias.emplace_back(id, static_cast<float>(value.get<double>()));
  }
}

void ReadStop(FieldReader& fields, GenerationSpec* spec) {
  const Json* stop = fields.Find("stop");
  if (stop != nullptr && stop->is_string()) {
    spec->stop = {stop->get<std::string>()};
  } else if (stop != nullptr && stop->is_array()) {
    for (const Json& text : *stop) {
      if (!text.is_string()) return fields.Fail("stop", "must be a string or a list of strings");
      spec->stop.push_back(text.get<std::string>());
    }
  } else if (stop != nullptr) {
    return fields.Fail("stop", "must be a string or a list of strings");
  }
  if (const Json* ids = fields.Find("stop_token_ids")) {
    absl::StatusOr<std::vector<int32_t>> list = ReadTokenIds(*ids, "stop_token_ids");
    if (!list.ok()) return fields.Fail(list.status());
    spec->stop_token_ids = *std::move(list);
  }
}

void ReadStream(FieldReader& fields, CompletionCall* call) {
  fields.Read("stream", &call->stream);
  const Json* options = fields.Find("stream_options");
  if (options == nullptr) return;
  if (!call->stream) return fields.Fail("stream_options", "is only allowed with stream");
  if (!options->is_object()) return fields.Fail("stream_options", "must be an object");
  FieldReader inner(*options, "stream_options.");
  inner.Read("include_usage", &call->include_usage);
  inner.Ignore({"include_obfuscation"});
  fields.Fail(inner.status());
  for (std::string& name : inner.Unknown()) call->unknown_fields.push_back(std::move(name));
}

// What is 400 now and comes in a later version, and what no text model has.
void RefuseUnsupported(FieldReader& fields) {
  if (const Json* tools = fields.Find("tools")) {
    fields.Fail("tools", tools->is_array() && tools->empty() ? "must not be an empty list"
                                                             : "is not supported yet: tools come in a later version");
  }
  fields.Refuse("tool_choice", "is only allowed with tools");
  fields.Refuse("functions", "is not supported: use tools, which come in a later version");
  fields.Refuse("function_call", "is not supported: use tools, which come in a later version");
  fields.Refuse("audio", "is not supported: this model takes and makes text");
  if (const Json* modalities = fields.Find("modalities"); modalities != nullptr && *modalities != Json({"text"})) {
    fields.Fail("modalities", "can only be [\"text\"]");
  }
  if (const Json* format = fields.Find("response_format")) {
    const bool typed = format->is_object() && format->contains("type") && (*format)["type"].is_string();
    const std::string type = typed ? (*format)["type"].get<std::string>() : "";
    if (type == "json_schema" || type == "json_object") {
      fields.Fail("response_format",
                  absl::StrCat("of type ", type, " is not supported yet: structured output comes in a later version"));
    } else if (type != "text") {
      fields.Fail("response_format", "must be an object with the type text, json_object or json_schema");
    }
  }
}

// A prompt as string, [string], [int] or [[int]].
void ReadPrompts(FieldReader& fields, std::vector<Prompt>* prompts) {
  constexpr const char* kShape = "must be a string, a list of strings, a list of token ids or a list of such lists";
  const Json* prompt = fields.Find("prompt");
  if (prompt == nullptr) return fields.Fail("prompt", "is missing");
  if (prompt->is_string()) return prompts->assign(1, prompt->get<std::string>());
  if (!prompt->is_array()) return fields.Fail("prompt", kShape);
  if (prompt->empty()) return fields.Fail("prompt", "must not be empty");
  const auto read_ids = [&](const Json& list) {
    absl::StatusOr<std::vector<int32_t>> ids = ReadTokenIds(list, "prompt");
    if (!ids.ok()) return fields.Fail(ids.status());
    prompts->emplace_back(*std::move(ids));
  };
  if (prompt->front().is_number()) return read_ids(*prompt);
  for (const Json& item : *prompt) {
    if (item.type() != prompt->front().type() || !(item.is_string() || item.is_array()))
      return fields.Fail("prompt", kShape);
    item.is_string() ? void(prompts->emplace_back(item.get<std::string>())) : read_ids(item);
  }
}

// Fields that clients send and that change nothing here.
void IgnoreHarmless(FieldReader& fields) {
  fields.Ignore({"user", "metadata", "store", "service_tier", "prompt_cache_key", "prompt_cache_retention",
                 "safety_identifier", "verbosity", "prediction", "parallel_tool_calls", "include_reasoning"});
}

// temperature … stop, stream and stream_options: what chat and completions have in common.
void ReadCommon(FieldReader& fields, CompletionCall* call) {
  GenerationSpec* spec = &call->spec;
  fields.Read("model", &call->model);
  ReadSampling(fields, spec);
  ReadStop(fields, spec);
  ReadStream(fields, call);
  fields.Read("n", &spec->n);
  spec->best_of = spec->n;
  fields.Read("min_tokens", &spec->min_tokens);
  fields.Read("ignore_eos", &spec->ignore_eos);
  fields.Read("priority", &spec->priority);
  fields.Read("cache_salt", &spec->cache_salt);
  if (int32_t tokens = 0; fields.Read("max_tokens", &tokens)) spec->max_tokens = tokens;
  RefuseUnsupported(fields);
  IgnoreHarmless(fields);
}

}  // namespace

absl::StatusOr<std::vector<int32_t>> ReadTokenIds(const Json& list, const char* field) {
  if (!list.is_array()) return BadField(field, "must be a list of token ids");
  std::vector<int32_t> ids;
  ids.reserve(list.size());
  for (const Json& item : list) {
    HYSPARSE_ASSIGN_OR_RETURN(const int64_t id, ToInteger(item, field));
    if (id < 0 || id > std::numeric_limits<int32_t>::max())
      return BadField(field, absl::StrCat("holds ", id, ", which is no token id"));
    ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

absl::StatusOr<CompletionCall> ParseChat(const std::string& body, const SamplingParams& defaults) {
  HYSPARSE_ASSIGN_OR_RETURN(const Json json, ParseBody(body));
  CompletionCall call;
  call.chat = true;
  call.spec.sampling = defaults;
  FieldReader fields(json);
  call.spec.prompts.emplace_back(ReadChatPrompt(fields));
  ReadCommon(fields, &call);
  if (int32_t tokens = 0; fields.Read("max_completion_tokens", &tokens)) {
    if (tokens < 1) fields.Fail("max_completion_tokens", "must be at least 1");
    call.spec.max_tokens = tokens;
  }
  fields.Read("logprobs", &call.spec.logprobs);
  if (fields.Read("top_logprobs", &call.spec.top_logprobs) && !call.spec.logprobs) {
    fields.Fail("top_logprobs", "is only allowed with logprobs");
  }
  HYSPARSE_RETURN_IF_ERROR(fields.status());
  for (std::string& name : fields.Unknown()) call.unknown_fields.push_back(std::move(name));
  return call;
}

absl::StatusOr<CompletionCall> ParseCompletion(const std::string& body, const SamplingParams& defaults) {
  HYSPARSE_ASSIGN_OR_RETURN(const Json json, ParseBody(body));
  CompletionCall call;
  call.spec.sampling = defaults;
  call.spec.default_max_tokens = kDefaultCompletionTokens;
  FieldReader fields(json);
  ReadPrompts(fields, &call.spec.prompts);
  ReadCommon(fields, &call);
  fields.Read("echo", &call.spec.echo);
  call.spec.logprobs = fields.Read("logprobs", &call.spec.top_logprobs);
  if (call.spec.top_logprobs < 0 || call.spec.top_logprobs > 20) fields.Fail("logprobs", "must lie in [0, 20]");
  if (fields.Read("best_of", &call.spec.best_of) && call.stream && call.spec.best_of > call.spec.n) {
    fields.Fail("best_of", "cannot be streamed: the best is known only at the end");
  }
  if (const Json* suffix = fields.Find("suffix"); suffix != nullptr && *suffix != "") {
    fields.Fail("suffix", "is not supported: this model does not fill in the middle");
  }
  HYSPARSE_RETURN_IF_ERROR(fields.status());
  for (std::string& name : fields.Unknown()) call.unknown_fields.push_back(std::move(name));
  return call;
}

absl::StatusOr<CapacityCall> ParseCapacity(const std::string& body) {
  HYSPARSE_ASSIGN_OR_RETURN(const Json json, ParseBody(body));
  CapacityCall call;
  FieldReader fields(json);
  fields.Read("model", &call.model);
  const auto read = [&](const char* name, std::optional<int64_t>* count) {
    const Json* value = fields.Find(name);
    if (value == nullptr) return;
    const absl::StatusOr<int64_t> number = ToInteger(*value, name);
    number.ok() ? void(*count = *number) : fields.Fail(number.status());
  };
  read("prompt_tokens", &call.spec.prompt_tokens);
  read("max_tokens", &call.spec.max_tokens);
  read("max_completion_tokens", &call.spec.max_tokens);  // wins, as for a chat
  if (fields.Find("messages") != nullptr) call.spec.messages = ReadChatPrompt(fields);
  HYSPARSE_RETURN_IF_ERROR(fields.status());
  call.unknown_fields = fields.Unknown();
  return call;
}

absl::StatusOr<TokenizeCall> ParseTokenize(const std::string& body) {
  HYSPARSE_ASSIGN_OR_RETURN(const Json json, ParseBody(body));
  TokenizeCall call;
  FieldReader fields(json);
  fields.Read("model", &call.model);
  fields.Read("return_token_strs", &call.return_token_strings);
  if (fields.Find("messages") != nullptr) {
    fields.Refuse("prompt", "and messages exclude each other");
    call.prompt = ReadChatPrompt(fields);
    call.add_special_tokens = false;  // the template writes them
    if (bool add = false; fields.Read("add_special_tokens", &add) && add) {
      fields.Fail("add_special_tokens", "cannot be used with messages: the chat template writes the special tokens");
    }
    fields.Refuse("tools", "is not supported yet: tools come in a later version");
  } else {
    std::string text;
    if (!fields.Read("prompt", &text)) fields.Fail("prompt", "must be a string");
    call.prompt = std::move(text);
    fields.Read("add_special_tokens", &call.add_special_tokens);
  }
  HYSPARSE_RETURN_IF_ERROR(fields.status());
  call.unknown_fields = fields.Unknown();
  return call;
}

absl::StatusOr<DetokenizeCall> ParseDetokenize(const std::string& body) {
  HYSPARSE_ASSIGN_OR_RETURN(const Json json, ParseBody(body));
  DetokenizeCall call;
  FieldReader fields(json);
  fields.Read("model", &call.model);
  if (const Json* tokens = fields.Find("tokens")) {
    absl::StatusOr<std::vector<int32_t>> ids = ReadTokenIds(*tokens, "tokens");
    if (ids.ok()) {
      call.tokens = *std::move(ids);
    } else {
      fields.Fail(ids.status());
    }
  } else {
    fields.Fail("tokens", "is missing");
  }
  HYSPARSE_RETURN_IF_ERROR(fields.status());
  call.unknown_fields = fields.Unknown();
  return call;
}

}  // namespace hysparse::openai
