#include "server/openai/format.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace hysparse::openai {
namespace {

using Json = nlohmann::ordered_json;

// A double that prints short and as JSON: -inf and NaN do not exist there.
double Shown(float logprob) { return logprob >= -9999.0f ? static_cast<double>(logprob) : -9999.0; }

// Bytes that are no UTF-8 (nothing here should have any) become U+FFFD instead of an exception.
std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

Json TextOrNull(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

Json FinishName(FinishReason finish) {
  if (finish == FinishReason::kNone) return nullptr;
  return finish == FinishReason::kLength ? "length" : "stop";
}

Json Bytes(const std::string& bytes) {
  Json list = Json::array();
  for (char c : bytes) list.push_back(static_cast<unsigned char>(c));
  return list;
}

Json ChatToken(const Tokenizer& tokenizer, int32_t id, float logprob) {
  return {{"token", TokenName(tokenizer, id)}, {"logprob", Shown(logprob)}, {"bytes", Bytes(tokenizer.TokenBytes(id))}};
}

Json ChatLogprobs(const Tokenizer& tokenizer, const std::vector<TextToken>& tokens) {
  Json content = Json::array();
  for (const TextToken& token : tokens) {
    Json entry = ChatToken(tokenizer, token.output.token, token.output.logprob);
    Json top = Json::array();
    for (const TokenLogprob& t : token.output.top_logprobs) top.push_back(ChatToken(tokenizer, t.token, t.logprob));
    entry["top_logprobs"] = std::move(top);
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

Json CompletionLogprobs(const Tokenizer& tokenizer, const std::vector<CompletionLogprob>& entries) {
  Json tokens = Json::array(), logprobs = Json::array(), tops = Json::array(), offsets = Json::array();
  for (const CompletionLogprob& entry : entries) {
    const std::string name = TokenName(tokenizer, entry.output.token);
    tokens.push_back(name);
    offsets.push_back(entry.text_offset);
    logprobs.push_back(entry.scored ? Json(Shown(entry.output.logprob)) : Json(nullptr));
    Json top = Json::object();
    for (const TokenLogprob& t : entry.output.top_logprobs) top[TokenName(tokenizer, t.token)] = Shown(t.logprob);
    if (entry.scored) top[name] = Shown(entry.output.logprob);  // the chosen one is always among them
    tops.push_back(entry.scored ? std::move(top) : Json(nullptr));
  }
  return {{"tokens", std::move(tokens)},
          {"token_logprobs", std::move(logprobs)},
          {"top_logprobs", std::move(tops)},
          {"text_offset", std::move(offsets)}};
}

Json Logprobs(const ReplyHeader& header, const std::optional<ReplyLogprobs>& logprobs) {
  if (!logprobs) return nullptr;
  return header.chat ? ChatLogprobs(*header.tokenizer, logprobs->chat)
                     : CompletionLogprobs(*header.tokenizer, logprobs->completion);
}

Json UsageJson(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}}};
}

Json Envelope(const ReplyHeader& header, const char* chat_object, Json choices) {
  return {{"id", header.id},
          {"object", header.chat ? chat_object : "text_completion"},
          {"created", header.created},
          {"model", header.model},
          {"choices", std::move(choices)}};
}

std::string Event(const Json& json) { return absl::StrCat("data: ", Dump(json), "\n\n"); }

std::string ChunkEvent(const ReplyHeader& header, Json choices, Json usage = nullptr) {
  Json chunk = Envelope(header, "chat.completion.chunk", std::move(choices));
  if (header.include_usage) chunk["usage"] = std::move(usage);
  return Event(chunk);
}

std::string ChatChunk(const ReplyHeader& header, int32_t choice, Json delta, Json logprobs, FinishReason finish) {
  Json entry = {{"index", choice},
                {"delta", std::move(delta)},
                {"logprobs", std::move(logprobs)},
                {"finish_reason", FinishName(finish)}};
  return ChunkEvent(header, Json::array({std::move(entry)}));
}

}  // namespace

std::string ErrorBody(const ApiError& error) {
  return Dump({{"error",
                {{"message", error.message},
                 {"type", error.type},
                 {"param", TextOrNull(error.param)},
                 {"code", TextOrNull(error.code)}}}});
}

HttpResponse ErrorResponse(const ApiError& error) {
  HttpResponse response{error.http_status, "application/json", ErrorBody(error), {}};
  if (error.retry_after_seconds > 0) {
    response.headers.emplace_back("retry-after", std::to_string(error.retry_after_seconds));
  }
  return response;
}

std::string TokenName(const Tokenizer& tokenizer, int32_t id) {
  const std::string bytes = tokenizer.TokenBytes(id);
  const auto is_utf8 = [](const std::string& text) {
    // The library's own validator: what it would replace is not UTF-8.
    try {
      Json(text).dump();
      return true;
    } catch (const Json::type_error&) {
      return false;
    }
  };
  if (is_utf8(bytes)) return bytes;
  std::string name = "bytes:";
  for (char c : bytes) absl::StrAppend(&name, "\\x", absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2));
  return name;
}

std::string FullReply(const ReplyHeader& header, const std::vector<ReplyChoice>& choices, const Usage& usage) {
  Json list = Json::array();
  for (const ReplyChoice& choice : choices) {
    Json entry = {{"index", choice.index}};
    if (header.chat) {
      entry["message"] = {{"role", "assistant"}, {"content", choice.text}, {"refusal", nullptr}};
    } else {
      entry["text"] = choice.text;
    }
    entry["logprobs"] = Logprobs(header, choice.logprobs);
    entry["finish_reason"] = FinishName(choice.finish);
    list.push_back(std::move(entry));
  }
  Json reply = Envelope(header, "chat.completion", std::move(list));
  reply["usage"] = UsageJson(usage);
  return Dump(reply);
}

std::string RoleEvent(const ReplyHeader& header, int32_t choice) {
  return ChatChunk(header, choice, {{"role", "assistant"}, {"content", ""}}, nullptr, FinishReason::kNone);
}

std::string TextEvent(const ReplyHeader& header, const ReplyChoice& part) {
  Json logprobs = Logprobs(header, part.logprobs);
  if (header.chat)
    return ChatChunk(header, part.index, {{"content", part.text}}, std::move(logprobs), FinishReason::kNone);
  Json entry = {{"index", part.index},
                {"text", part.text},
                {"logprobs", std::move(logprobs)},
                {"finish_reason", FinishName(part.finish)}};
  return ChunkEvent(header, Json::array({std::move(entry)}));
}

std::string FinishEvent(const ReplyHeader& header, int32_t choice, FinishReason finish) {
  return ChatChunk(header, choice, Json::object(), nullptr, finish);
}

std::string UsageEvent(const ReplyHeader& header, const Usage& usage) {
  return ChunkEvent(header, Json::array(), UsageJson(usage));
}

std::string ErrorEvent(const ApiError& error) { return absl::StrCat("data: ", ErrorBody(error), "\n\n"); }

std::string ModelCard(const ServedModel& model, const std::string& name) {
  return Dump({{"id", name},
               {"object", "model"},
               {"created", model.created},
               {"owned_by", "hysparse"},
               {"max_model_len", model.max_model_len}});
}

std::string ModelList(const ServedModel& model) {
  std::string cards;
  for (const std::string& name : model.names) absl::StrAppend(&cards, cards.empty() ? "" : ",", ModelCard(model, name));
  return absl::StrCat("{\"object\":\"list\",\"data\":[", cards, "]}");
}

std::string CapacityReply(const ServedModel& model, const QuoteResult& quote) {
  const auto seconds = [](const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); };
  const char* const verdicts[] = {"admit", "queue", "refuse"};
  return Dump(
      {{"object", "capacity"},
       {"model", model.id()},
       {"verdict", verdicts[static_cast<size_t>(quote.verdict)]},
       {"reason", quote.reason.empty() ? Json(nullptr) : Json(quote.reason)},
       {"prompt_tokens", quote.prompt_tokens},
       {"max_tokens", quote.max_tokens},
       {"kv_bytes",
        {{"global", quote.kv_bytes.global}, {"window", quote.kv_bytes.window}, {"total", quote.kv_bytes.total()}}},
       {"sessions_that_fit", {{"now", quote.sessions_now}, {"empty_cache", quote.sessions_empty}}},
       {"queue_ahead", {{"requests", quote.ahead}, {"tokens", quote.ahead_tokens}}},
       {"predicted_start_seconds", seconds(quote.start_s)},
       {"predicted_first_token_seconds", seconds(quote.first_token_s)}});
}

std::string TokenizeReply(const ServedModel& model, const std::vector<int32_t>& tokens, bool strings) {
  Json texts = nullptr;
  if (strings) {
    texts = Json::array();
    for (int32_t token : tokens) texts.push_back(model.tokenizer->TokenText(token));
  }
  return Dump({{"count", tokens.size()},
               {"max_model_len", model.max_model_len},
               {"tokens", tokens},
               {"token_strs", std::move(texts)}});
}

std::string DetokenizeReply(const std::string& prompt) { return Dump({{"prompt", prompt}}); }

}  // namespace hysparse::openai
