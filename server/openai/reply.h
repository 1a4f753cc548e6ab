// A generation's consumers: they turn its updates into one JSON answer or into server-sent events. They run on the
// generation's strand and own the HTTP exchange until the answer is complete or the client has left.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/http_exchange.h"
#include "server/openai/format.h"
#include "server/openai/types.h"
#include "server/stream_session.h"

namespace hysparse::openai {

// What a reply needs to know of its request.
struct ReplyPlan {
  ReplyHeader header;
  std::shared_ptr<const ServedModel> model;  // keeps header.tokenizer alive
  bool logprobs = false;
  int32_t n = 1, best_of = 1;                 // best_of sequences were made per prompt, n are returned
  std::vector<std::string> echo;              // per prompt: its text; empty without echo
  std::vector<std::string> prompt_text;       // per prompt, for text offsets; only with a completion's logprobs
  std::vector<std::vector<int32_t>> prompts;  // per prompt: its tokens; only with echo and logprobs
};

// `choices`: prompts × best_of.
std::shared_ptr<GenerationConsumer> MakeReply(ReplyPlan plan, bool stream, std::shared_ptr<HttpExchange> exchange,
                                              int32_t choices);

}  // namespace hysparse::openai
