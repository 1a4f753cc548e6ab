#include "server/grpc/generate_call.h"

#include <random>
#include <utility>

#include "absl/strings/str_format.h"
#include "boost/asio/post.hpp"
#include "engine/base/result.h"
#include "server/error_map.h"

namespace hysparse {
namespace {

std::string NewId() {
  thread_local std::mt19937_64 generator{std::random_device{}()};
  return absl::StrFormat("gen-%016x%016x", generator(), generator());
}

v1::FinishReason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kCancelled:
      return v1::FINISH_REASON_CANCELLED;
    case FinishReason::kNone:
    case FinishReason::kError:
      break;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

}  // namespace

GenerateCall* GenerateCall::Start(const GrpcContext& context, const v1::GenerateRequest& request, std::string tenant) {
  std::shared_ptr<GenerateCall> call(new GenerateCall(context, NewId()));
  call->self_ = call;
  boost::asio::post(context.worker_pool,
                    [call, request, tenant = std::move(tenant)] { call->Prepare(request, tenant); });
  return call.get();
}

GenerateCall* GenerateCall::Refuse(const GrpcContext& context, const grpc::Status& status) {
  std::shared_ptr<GenerateCall> call(new GenerateCall(context, std::string()));
  call->self_ = call;
  call->End(status);
  return call.get();
}

void GenerateCall::Prepare(const v1::GenerateRequest& request, const std::string& tenant) {
  const absl::Status status = StartSession(request, tenant);
  if (!status.ok()) End(ToGrpcStatus(status));
}

absl::Status GenerateCall::StartSession(const v1::GenerateRequest& request, const std::string& tenant) {
  model_ = context_.slot.Get();
  if (model_ == nullptr) return absl::UnavailableError("the model is still loading");
  pass_ = context_.gate.Enter();
  if (!pass_) return absl::UnavailableError("the server is shutting down");
  HYSPARSE_RETURN_IF_ERROR(model_->engine->CanQueue());  // before anything is tokenised
  if (!request.model().empty() && !model_->Answers(request.model())) return ModelNotFound(request.model());
  HYSPARSE_ASSIGN_OR_RETURN(const GenerationSpec spec, ToGenerationSpec(request, *model_, tenant));
  const GenerationLimits limits{.vocab = model_->spec.vocab,
                                .max_choices = context_.options.max_choices,
                                .max_stop_strings = context_.options.max_stop_strings};
  HYSPARSE_RETURN_IF_ERROR(CheckRanges(spec, limits));
  HYSPARSE_ASSIGN_OR_RETURN(Generation generation, hysparse::Prepare(*model_, spec, id_));
  auto session =
      StreamSession::Create(model_, std::move(generation), shared_from_this(), context_.text_pool, &context_.metrics);
  {
    std::lock_guard lock(mutex_);
    if (cancelled_) return absl::CancelledError("the client went away");
    session_ = session;
  }
  return session->Start();
}

void GenerateCall::FillLogprobs(const ChoiceUpdate& update, v1::GenerateResponse* response) const {
  const auto fill = [this](int32_t token, float logprob, v1::Logprob* out) {
    out->set_token(token);
    out->set_logprob(logprob);
    out->set_bytes(model_->tokenizer->TokenBytes(token));
  };
  for (const TextToken& token : update.tokens) {
    v1::TokenLogprobs* entry = response->add_logprobs();
    fill(token.output.token, token.output.logprob, entry->mutable_chosen());
    for (const TokenLogprob& top : token.output.top_logprobs) fill(top.token, top.logprob, entry->add_top());
  }
}

void GenerateCall::OnUpdate(ChoiceUpdate update) {
  v1::GenerateResponse response;
  response.set_id(id_);
  response.set_choice(update.choice);
  *response.mutable_text() = std::move(update.text);
  response.mutable_tokens()->Add(update.ids.begin(), update.ids.end());
  FillLogprobs(update, &response);
  response.set_finish_reason(ToProto(update.finish));
  Push(std::move(response));
}

void GenerateCall::OnDone(const absl::Status& status, const Usage& usage) {
  if (status.ok()) {
    v1::GenerateResponse response;
    response.set_id(id_);
    response.mutable_usage()->set_prompt_tokens(usage.prompt_tokens);
    response.mutable_usage()->set_completion_tokens(usage.completion_tokens);
    response.mutable_usage()->set_cached_tokens(usage.cached_tokens);
    Push(std::move(response));
  }
  End(ToGrpcStatus(status));
}

void GenerateCall::Push(v1::GenerateResponse response) {
  std::unique_lock lock(mutex_);
  queued_bytes_ += response.ByteSizeLong();
  queue_.push_back(std::move(response));
  if (queued_bytes_ > context_.options.max_stream_backlog_bytes && session_ != nullptr) session_->Cancel();
  Pump(std::move(lock));
}

void GenerateCall::End(const grpc::Status& status) {
  std::unique_lock lock(mutex_);
  if (end_) return;
  end_ = status;
  Pump(std::move(lock));
}

// Starts the next write, or finishes when there is none left to come. gRPC is called without the lock: it may call
// back.
void GenerateCall::Pump(std::unique_lock<std::mutex> lock) {
  if (writing_ || finished_) return;
  if (!queue_.empty() && !cancelled_) {
    writing_ = true;
    const v1::GenerateResponse* next = &queue_.front();  // a deque's front stays put while the back grows
    lock.unlock();
    return StartWrite(next);
  }
  if (!end_) return;
  finished_ = true;
  const grpc::Status status = *end_;
  lock.unlock();
  Finish(status);
}

void GenerateCall::OnWriteDone(bool ok) {
  std::unique_lock lock(mutex_);
  writing_ = false;
  queued_bytes_ -= queue_.front().ByteSizeLong();
  queue_.pop_front();
  if (!ok) cancelled_ = true;
  if (cancelled_ && session_ != nullptr) session_->Cancel();
  Pump(std::move(lock));
}

void GenerateCall::OnCancel() {
  std::unique_lock lock(mutex_);
  cancelled_ = true;
  if (session_ != nullptr) session_->Cancel();
  Pump(std::move(lock));
}

void GenerateCall::OnDone() {
  const std::shared_ptr<GenerateCall> last = std::move(self_);
  std::lock_guard lock(mutex_);
  session_.reset();  // the session holds this object too
  pass_.reset();
}

}  // namespace hysparse
