// Answers of the OpenAI endpoints as JSON text. Pure functions; any thread. The text never has broken UTF-8.
// Source: the OpenAI API; the order of stream events is in server/README.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/tokenizer.h"
#include "server/error_map.h"
#include "server/http_exchange.h"
#include "server/stream_session.h"

namespace hysparse::openai {

// ---- Errors: {"error":{message, type, param, code}}
std::string ErrorBody(const ApiError& error);
HttpResponse ErrorResponse(const ApiError& error);

// ---- Log probabilities
// One token as it is shown: its text, and its bytes where these are a part of a character ("bytes:\xe2\x82").
std::string TokenName(const Tokenizer& tokenizer, int32_t id);

// A completion's entry: the token, its log probability and alternatives, the character it starts at.
struct CompletionLogprob {
  TokenOutput output;
  int64_t text_offset = 0;
  bool scored = true;  // false: an echoed prompt's first token
};

// ---- Answers. What all chunks and the full answer of one request share.
struct ReplyHeader {
  bool chat = false;
  std::string id, model;
  int64_t created = 0;
  bool include_usage = false;  // streams: "usage": null in every chunk but the last
  const Tokenizer* tokenizer = nullptr;
};

// The log probabilities of a choice or of a chunk of one, in the shape of the endpoint; unset: null.
struct ReplyLogprobs {
  std::vector<TextToken> chat;
  std::vector<CompletionLogprob> completion;
};

struct ReplyChoice {
  int32_t index = 0;
  std::string text;
  std::optional<ReplyLogprobs> logprobs;
  FinishReason finish = FinishReason::kNone;
};

std::string FullReply(const ReplyHeader& header, const std::vector<ReplyChoice>& choices, const Usage& usage);

// Server-sent events, "data: …\n\n" each.
std::string RoleEvent(const ReplyHeader& header, int32_t choice);           // chat: opens a choice
std::string TextEvent(const ReplyHeader& header, const ReplyChoice& part);  // chat: without the finish reason
std::string FinishEvent(const ReplyHeader& header, int32_t choice, FinishReason finish);  // chat
std::string UsageEvent(const ReplyHeader& header, const Usage& usage);
std::string ErrorEvent(const ApiError& error);
inline constexpr std::string_view kDoneEvent = "data: [DONE]\n\n";

// ---- The small endpoints
std::string ModelList(const ServedModel& model);
std::string ModelCard(const ServedModel& model, const std::string& name);
std::string CapacityReply(const ServedModel& model, const QuoteResult& quote);
std::string TokenizeReply(const ServedModel& model, const std::vector<int32_t>& tokens, bool strings);
std::string DetokenizeReply(const std::string& prompt);

}  // namespace hysparse::openai
