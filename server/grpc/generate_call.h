// GenerateCall: one Generate stream. It is gRPC's reactor and the session's consumer in one object: session outputs
// queue here, one write is in flight at a time, and the call finishes once the session is done and the queue is
// written. A client that goes away, or that lags more than the backlog allows, cancels the session. Keeps itself alive
// until both gRPC and the session have let go.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "server/grpc/inference_service.h"
#include "server/stream_session.h"

namespace hysparse {

class GenerateCall final : public grpc::ServerWriteReactor<v1::GenerateResponse>,
                           public GenerationConsumer,
                           public std::enable_shared_from_this<GenerateCall> {
 public:
  // The reactor for gRPC; `request` is copied: gRPC's own dies with the call.
  static GenerateCall* Start(const GrpcContext& context, const v1::GenerateRequest& request, std::string tenant);
  // A call that ends before it says anything.
  static GenerateCall* Refuse(const GrpcContext& context, const grpc::Status& status);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  void OnStart() override {}
  void OnPrompt(int32_t, std::vector<TokenOutput>) override {}  // the contract has no echo
  void OnUpdate(ChoiceUpdate update) override;
  void OnDone(const absl::Status& status, const Usage& usage) override;

 private:
  GenerateCall(const GrpcContext& context, std::string id) : context_(context), id_(std::move(id)) {}
  void Prepare(const v1::GenerateRequest& request, const std::string& tenant);
  absl::Status StartSession(const v1::GenerateRequest& request, const std::string& tenant);
  void FillLogprobs(const ChoiceUpdate& update, v1::GenerateResponse* response) const;
  void Push(v1::GenerateResponse response);
  void End(const grpc::Status& status);
  void Pump(std::unique_lock<std::mutex> lock);

  const GrpcContext& context_;  // the service's
  const std::string id_;
  std::shared_ptr<GenerateCall> self_;  // until gRPC's OnDone
  std::shared_ptr<const ServedModel> model_;
  std::optional<DrainGate::Pass> pass_;

  std::mutex mutex_;  // guards what follows
  std::shared_ptr<StreamSession> session_;
  std::deque<v1::GenerateResponse> queue_;
  size_t queued_bytes_ = 0;
  bool writing_ = false, cancelled_ = false, finished_ = false;
  std::optional<grpc::Status> end_;  // set once nothing more will be queued
};

}  // namespace hysparse
