// The OpenAI routes (and vLLM's /tokenize, /detokenize, and our /v1/capacity): each takes an exchange, works on the
// request pool and answers.
#pragma once

#include <memory>

#include "server/http_exchange.h"

namespace hysparse {
class App;
}

namespace hysparse::openai {

void HandleChat(App& app, std::shared_ptr<HttpExchange> exchange);
void HandleCompletions(App& app, std::shared_ptr<HttpExchange> exchange);
void HandleResponses(App& app, std::shared_ptr<HttpExchange> exchange);
void HandleModels(App& app, std::shared_ptr<HttpExchange> exchange);
void HandleModel(App& app, std::shared_ptr<HttpExchange> exchange);
void HandleCapacity(App& app, std::shared_ptr<HttpExchange> exchange);
void HandleTokenize(App& app, std::shared_ptr<HttpExchange> exchange);
void HandleDetokenize(App& app, std::shared_ptr<HttpExchange> exchange);

}  // namespace hysparse::openai
