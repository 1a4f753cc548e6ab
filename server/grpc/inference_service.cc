#include "server/grpc/inference_service.h"

#include <utility>
#include <vector>

#include "boost/asio/post.hpp"
#include "engine/base/result.h"
#include "server/error_map.h"
#include "server/grpc/call_auth.h"
#include "server/grpc/generate_call.h"
#include "server/quote.h"

namespace hysparse {
namespace {

constexpr int32_t kDefaultTextTokens = 16;  // as /v1/completions

absl::StatusOr<Prompt> ToPrompt(const v1::ChatPrompt& chat) {
  ChatTemplateInput input;
  input.messages = nlohmann::ordered_json::array();
  if (chat.messages().empty()) return BadField("messages", "must not be empty");
  for (const v1::ChatMessage& message : chat.messages()) {
    const std::string role = message.role() == "developer" ? "system" : message.role();
    if (role != "system" && role != "user" && role != "assistant") {
      return BadField("messages", "has the role '" + role + "'; use system, developer, user or assistant");
    }
    input.messages.push_back({{"role", role}, {"content", message.content()}});
  }
  return Prompt(std::move(input));
}

void ApplySampling(const v1::Sampling& from, GenerationSpec* spec) {
  SamplingParams& to = spec->sampling;
  if (from.has_temperature()) to.temperature = from.temperature();
  if (from.has_top_p()) to.top_p = from.top_p();
  if (from.has_top_k()) to.top_k = from.top_k();
  if (from.has_min_p()) to.min_p = from.min_p();
  if (from.has_presence_penalty()) to.presence_penalty = from.presence_penalty();
  if (from.has_frequency_penalty()) to.frequency_penalty = from.frequency_penalty();
  if (from.has_repetition_penalty()) to.repetition_penalty = from.repetition_penalty();
  if (from.has_seed()) spec->seed = from.seed();
  for (const auto& [token, bias] : from.logit_bias()) to.logit_bias.emplace_back(token, bias);
}

absl::Status Tokenise(const ServedModel& model, const v1::TokenizeRequest& request, v1::TokenizeResponse* response) {
  if (!request.model().empty() && !model.Answers(request.model())) return ModelNotFound(request.model());
  Prompt prompt;
  switch (request.prompt_case()) {
    case v1::TokenizeRequest::kText:
      prompt = request.text();
      break;
    case v1::TokenizeRequest::kChat: {
      HYSPARSE_ASSIGN_OR_RETURN(prompt, ToPrompt(request.chat()));
      break;
    }
    case v1::TokenizeRequest::PROMPT_NOT_SET:
      return BadField("prompt", "must be set: text or chat");
  }
  const bool special = request.has_add_special_tokens() ? request.add_special_tokens() : true;
  HYSPARSE_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, EncodePrompt(model, prompt, special));
  response->mutable_tokens()->Add(ids.begin(), ids.end());
  response->set_max_model_len(model.max_model_len);
  return absl::OkStatus();
}

absl::StatusOr<QuoteSpec> ToQuoteSpec(const v1::QuoteRequest& request, const ServedModel& model) {
  if (!request.model().empty() && !model.Answers(request.model())) return ModelNotFound(request.model());
  QuoteSpec spec;
  if (request.has_max_tokens()) spec.max_tokens = request.max_tokens();
  if (request.has_prompt_tokens()) spec.prompt_tokens = request.prompt_tokens();
  if (request.has_chat()) {
    HYSPARSE_ASSIGN_OR_RETURN(spec.messages, ToPrompt(request.chat()));
  }
  return spec;
}

void FillQuote(const QuoteResult& quote, v1::QuoteResponse* response) {
  constexpr v1::Verdict kVerdicts[] = {v1::VERDICT_ADMIT, v1::VERDICT_QUEUE, v1::VERDICT_REFUSE};
  response->set_verdict(kVerdicts[static_cast<size_t>(quote.verdict)]);
  response->set_reason(quote.reason);
  response->set_prompt_tokens(quote.prompt_tokens);
  response->set_max_tokens(quote.max_tokens);
  response->mutable_kv_bytes()->set_global(quote.kv_bytes.global);
  response->mutable_kv_bytes()->set_window(quote.kv_bytes.window);
  response->set_sessions_now(quote.sessions_now);
  response->set_sessions_empty(quote.sessions_empty);
  response->set_queue_requests(quote.ahead);
  response->set_queue_tokens(quote.ahead_tokens);
  if (quote.start_s) response->set_start_seconds(*quote.start_s);
  if (quote.first_token_s) response->set_first_token_seconds(*quote.first_token_s);
}

// The loaded model, for a caller that may use it.
absl::StatusOr<std::shared_ptr<const ServedModel>> ModelFor(const GrpcContext& context,
                                                            const grpc::ServerContextBase& call) {
  if (!Authenticate(context.auth, call)) return absl::UnauthenticatedError(Unauthenticated().error_message());
  std::shared_ptr<const ServedModel> model = context.slot.Get();
  if (model == nullptr) return absl::UnavailableError("the model is still loading");
  return model;
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return {static_cast<grpc::StatusCode>(status.code()), std::string(status.message())};
}

absl::StatusOr<GenerationSpec> ToGenerationSpec(const v1::GenerateRequest& request, const ServedModel& model,
                                                const std::string& tenant) {
  GenerationSpec spec;
  spec.sampling = SamplingDefaults(model.spec);
  ApplySampling(request.sampling(), &spec);
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kText:
      spec.prompts.emplace_back(request.text());
      break;
    case v1::GenerateRequest::kTokens:
      spec.prompts.emplace_back(std::vector<int32_t>(request.tokens().ids().begin(), request.tokens().ids().end()));
      break;
    case v1::GenerateRequest::kChat: {
      HYSPARSE_ASSIGN_OR_RETURN(Prompt prompt, ToPrompt(request.chat()));
      spec.prompts.push_back(std::move(prompt));
      break;
    }
    case v1::GenerateRequest::PROMPT_NOT_SET:
      return BadField("prompt", "must be set: text, tokens or chat");
  }
  if (request.has_max_tokens()) spec.max_tokens = request.max_tokens();
  if (request.prompt_case() != v1::GenerateRequest::kChat) spec.default_max_tokens = kDefaultTextTokens;
  spec.min_tokens = request.min_tokens();
  spec.n = spec.best_of = request.has_n() ? request.n() : 1;
  spec.ignore_eos = request.ignore_eos();
  spec.stop.assign(request.stop().begin(), request.stop().end());
  spec.stop_token_ids.assign(request.stop_token_ids().begin(), request.stop_token_ids().end());
  spec.logprobs = request.logprobs();
  spec.top_logprobs = request.top_logprobs();
  if (spec.top_logprobs != 0 && !spec.logprobs) return BadField("top_logprobs", "needs logprobs to be true");
  spec.priority = request.priority();
  spec.cache_salt = absl::StrCat(tenant, ":", request.cache_salt());
  return spec;
}

grpc::ServerWriteReactor<v1::GenerateResponse>* InferenceService::Generate(grpc::CallbackServerContext* call,
                                                                           const v1::GenerateRequest* request) {
  std::optional<std::string> tenant = Authenticate(context_.auth, *call);
  if (!tenant) return GenerateCall::Refuse(context_, Unauthenticated());
  return GenerateCall::Start(context_, *request, *std::move(tenant));
}

grpc::ServerUnaryReactor* InferenceService::Quote(grpc::CallbackServerContext* call, const v1::QuoteRequest* request,
                                                  v1::QuoteResponse* response) {
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  const auto model = ModelFor(context_, *call);
  if (!model.ok()) {
    reactor->Finish(ToGrpcStatus(model.status()));
  } else {
    boost::asio::post(context_.worker_pool, [=, &workers = context_.worker_pool, model = *model] {
      const absl::StatusOr<QuoteSpec> spec = ToQuoteSpec(*request, *model);
      const auto finish = [=](const absl::StatusOr<QuoteResult>& quote) {
        if (quote.ok()) FillQuote(*quote, response);
        reactor->Finish(ToGrpcStatus(quote.status()));
      };
      const absl::Status asked = spec.ok() ? QuoteFor(model, *spec, workers, finish) : spec.status();
      if (!asked.ok()) finish(asked);
    });
  }
  return reactor;
}

grpc::ServerUnaryReactor* InferenceService::Tokenize(grpc::CallbackServerContext* call,
                                                     const v1::TokenizeRequest* request,
                                                     v1::TokenizeResponse* response) {
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  const auto model = ModelFor(context_, *call);
  if (!model.ok()) {
    reactor->Finish(ToGrpcStatus(model.status()));
  } else {  // request and response live until Finish
    boost::asio::post(context_.worker_pool,
                      [=, model = *model] { reactor->Finish(ToGrpcStatus(Tokenise(*model, *request, response))); });
  }
  return reactor;
}

grpc::ServerUnaryReactor* InferenceService::ListModels(grpc::CallbackServerContext* call, const v1::ListModelsRequest*,
                                                       v1::ListModelsResponse* response) {
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  const auto model = ModelFor(context_, *call);
  if (!model.ok()) {
    reactor->Finish(ToGrpcStatus(model.status()));
  } else {
    for (const std::string& name : (*model)->names) {
      v1::Model* entry = response->add_models();
      entry->set_id(name);
      entry->set_max_model_len((*model)->max_model_len);
    }
    reactor->Finish(grpc::Status::OK);
  }
  return reactor;
}

}  // namespace hysparse
