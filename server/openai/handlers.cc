#include "server/openai/handlers.h"

#include <spdlog/spdlog.h>

#include <boost/asio/post.hpp>
#include <chrono>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/result.h"
#include "server/app.h"
#include "server/error_map.h"
#include "server/generation.h"
#include "server/http_text.h"
#include "server/openai/format.h"
#include "server/openai/parse.h"
#include "server/openai/reply.h"
#include "server/quote.h"
#include "server/stream_session.h"

namespace hysparse::openai {
namespace {

using Exchange = std::shared_ptr<HttpExchange>;
using Model = std::shared_ptr<const ServedModel>;

void Respond(const Exchange& exchange, const absl::StatusOr<std::string>& body) {
  exchange->Respond(body.ok() ? HttpResponse{200, "application/json", *body, {}}
                              : ErrorResponse(ToApiError(body.status())));
}

absl::StatusOr<Model> LoadedModel(App& app) {
  Model model = app.model();
  if (model == nullptr)
    return absl::UnavailableError("The model is still being loaded; /startupz tells how far it is.");
  return model;
}

// The model's name and the fields nobody knows: what every call is checked for.
absl::Status CheckCall(App& app, const ServedModel& model, const std::string& name,
                       const std::vector<std::string>& unknown) {
  if (!name.empty() && !model.Answers(name)) return ModelNotFound(name);
  if (unknown.empty()) return absl::OkStatus();
  const std::string list = absl::StrJoin(unknown, ", ");
  if (app.options().strict)
    return BadField(unknown.front(), absl::StrCat("is not a field of this endpoint (unknown: ", list, ")"));
  app.metrics().CountUnknownFields(unknown.size());
  spdlog::debug("ignored request fields: {}", list);
  return absl::OkStatus();
}

// Says no at once while the queue is full: what a refusal costs is taken from those who are being served, and behind a
// pool that is busy with long prompts it would come late. Submit asks again.
bool RefusedAsFull(App& app, const Exchange& exchange) {
  const Model model = app.model();
  const absl::Status room = model != nullptr ? model->engine->CanQueue() : absl::OkStatus();
  if (!room.ok()) exchange->Respond(ErrorResponse(ToApiError(room)));
  return !room.ok();
}

// Runs `work` on the request pool. It answers itself, or returns an error that is answered here.
template <typename Work>
void OnRequestPool(App& app, Exchange exchange, Work work) {
  boost::asio::post(app.request_pool(), [&app, exchange = std::move(exchange), work = std::move(work)] {
    absl::Status status;
    try {
      const absl::StatusOr<Model> model = LoadedModel(app);
      status = model.ok() ? work(app, *model, exchange) : model.status();
    } catch (const std::exception& e) {
      spdlog::error("request {} failed: {}", exchange->request().id, e.what());
      status = absl::InternalError("The server failed on this request.");
    }
    if (!status.ok()) exchange->Respond(ErrorResponse(ToApiError(status)));
  });
}

ReplyPlan MakePlan(const CompletionCall& call, const Generation& generation, const Model& model,
                   const std::string& id) {
  ReplyPlan plan;
  plan.model = model;
  plan.header.chat = call.chat;
  plan.header.id = id;
  plan.header.model = call.model.empty() ? model->id() : call.model;
  plan.header.created =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  plan.header.include_usage = call.include_usage;
  plan.header.tokenizer = model->tokenizer.get();
  plan.logprobs = call.spec.logprobs;
  plan.n = call.spec.n;
  plan.best_of = call.spec.best_of;
  plan.echo = generation.echo;
  if (call.chat || !call.spec.logprobs) return plan;
  for (size_t p = 0; p < generation.requests.size(); ++p) {
    const auto* text = std::get_if<std::string>(&call.spec.prompts[p]);
    plan.prompt_text.push_back(text != nullptr ? *text
                                               : model->tokenizer->Decode(generation.requests[p].prompt, false));
    if (call.spec.echo) plan.prompts.push_back(generation.requests[p].prompt);
  }
  return plan;
}

absl::Status Generate(App& app, const Model& model, const Exchange& exchange, absl::StatusOr<CompletionCall> parsed) {
  HYSPARSE_RETURN_IF_ERROR(parsed.status());
  CompletionCall& call = *parsed;
  HYSPARSE_RETURN_IF_ERROR(CheckCall(app, *model, call.model, call.unknown_fields));
  GenerationLimits limits;
  limits.vocab = model->spec.vocab;
  limits.max_choices = app.options().max_choices;
  limits.max_stop_strings = app.options().max_stop_strings;
  HYSPARSE_RETURN_IF_ERROR(CheckRanges(call.spec, limits));
  call.spec.cache_salt = absl::StrCat(exchange->request().tenant, ":", call.spec.cache_salt);
  const std::string id = absl::StrCat(call.chat ? "chatcmpl-" : "cmpl-", RandomHex());
  HYSPARSE_ASSIGN_OR_RETURN(Generation generation, Prepare(*model, call.spec, id));
  if (exchange->disconnected()) return absl::OkStatus();  // left while its prompt was tokenised
  const auto choices = static_cast<int32_t>(generation.requests.size()) * call.spec.best_of;
  auto reply = MakeReply(MakePlan(call, generation, model, id), call.stream, exchange, choices);
  const auto session =
      StreamSession::Create(model, std::move(generation), std::move(reply), app.text_pool(), &app.metrics());
  // Weak: the exchange must not keep alive what keeps it alive.
  exchange->OnDisconnect([weak = std::weak_ptr<StreamSession>(session)] {
    if (const auto live = weak.lock()) live->Cancel();
  });
  return session->Start();
}

}  // namespace

void HandleChat(App& app, Exchange exchange) {
  if (RefusedAsFull(app, exchange)) return;
  OnRequestPool(app, std::move(exchange), [](App& a, const Model& model, const Exchange& e) {
    return Generate(a, model, e, ParseChat(e->request().body, SamplingDefaults(model->spec)));
  });
}

void HandleCompletions(App& app, Exchange exchange) {
  if (RefusedAsFull(app, exchange)) return;
  OnRequestPool(app, std::move(exchange), [](App& a, const Model& model, const Exchange& e) {
    return Generate(a, model, e, ParseCompletion(e->request().body, SamplingDefaults(model->spec)));
  });
}

void HandleResponses(App&, Exchange exchange) {
  Respond(exchange, absl::UnimplementedError("/v1/responses is not supported yet; use /v1/chat/completions."));
}

void HandleModels(App& app, Exchange exchange) {
  const absl::StatusOr<Model> model = LoadedModel(app);
  Respond(exchange, model.ok() ? absl::StatusOr<std::string>(ModelList(**model)) : model.status());
}

void HandleModel(App& app, Exchange exchange) {
  const absl::StatusOr<Model> model = LoadedModel(app);
  if (!model.ok()) return Respond(exchange, model.status());
  const std::string name = exchange->request().path.substr(std::string_view("/v1/models/").size());
  if (!(*model)->Answers(name)) return Respond(exchange, ModelNotFound(name));
  Respond(exchange, ModelCard(**model, name));
}

void HandleCapacity(App& app, Exchange exchange) {
  OnRequestPool(app, std::move(exchange), [](App& a, const Model& model, const Exchange& e) -> absl::Status {
    HYSPARSE_ASSIGN_OR_RETURN(const CapacityCall call, ParseCapacity(e->request().body));
    HYSPARSE_RETURN_IF_ERROR(CheckCall(a, *model, call.model, call.unknown_fields));
    return QuoteFor(model, call.spec, a.request_pool(), [model, e](const absl::StatusOr<QuoteResult>& quote) {
      Respond(e, quote.ok() ? absl::StatusOr<std::string>(CapacityReply(*model, *quote)) : quote.status());
    });
  });
}

void HandleTokenize(App& app, Exchange exchange) {
  OnRequestPool(app, std::move(exchange), [](App& a, const Model& model, const Exchange& e) -> absl::Status {
    HYSPARSE_ASSIGN_OR_RETURN(const TokenizeCall call, ParseTokenize(e->request().body));
    HYSPARSE_RETURN_IF_ERROR(CheckCall(a, *model, call.model, call.unknown_fields));
    HYSPARSE_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens,
                              EncodePrompt(*model, call.prompt, call.add_special_tokens));
    Respond(e, TokenizeReply(*model, tokens, call.return_token_strings));
    return absl::OkStatus();
  });
}

void HandleDetokenize(App& app, Exchange exchange) {
  OnRequestPool(app, std::move(exchange), [](App& a, const Model& model, const Exchange& e) -> absl::Status {
    HYSPARSE_ASSIGN_OR_RETURN(const DetokenizeCall call, ParseDetokenize(e->request().body));
    HYSPARSE_RETURN_IF_ERROR(CheckCall(a, *model, call.model, call.unknown_fields));
    for (int32_t token : call.tokens) {
      if (token < model->tokenizer->vocab_size()) continue;
      return BadField("tokens", absl::StrCat("holds token id ", token, ", which is outside the vocabulary [0, ",
                                             model->tokenizer->vocab_size(), ")"));
    }
    Respond(e, DetokenizeReply(model->tokenizer->Decode(call.tokens, /*skip_special_tokens=*/false)));
    return absl::OkStatus();
  });
}

}  // namespace hysparse::openai
