// hysparse.v1.Inference: the contract of proto/hysparse/v1/inference.proto on the same Generation and StreamSession as
// the HTTP front end. gRPC's threads only hand over: parsing, templates and tokenising run on the worker pool. Errors
// are the Status codes themselves (gRPC's and absl's agree).
#pragma once

#include <boost/asio/thread_pool.hpp>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "hysparse/v1/inference.grpc.pb.h"
#include "server/auth.h"
#include "server/drain_gate.h"
#include "server/generation.h"
#include "server/metrics.h"
#include "server/served_model.h"
#include "server/server_options.h"

namespace hysparse {

// What the service needs of the program; all of it outlives the service.
struct GrpcContext {
  const ServerOptions& options;
  const Auth& auth;
  const ModelSlot& slot;
  DrainGate& gate;
  Metrics& metrics;
  boost::asio::thread_pool& worker_pool;  // parsing, templates, tokenising
  boost::asio::thread_pool& text_pool;    // detokenising
};

// The contract's prompt and numbers as a GenerationSpec; `tenant` salts the prefix cache beside the request.
absl::StatusOr<GenerationSpec> ToGenerationSpec(const v1::GenerateRequest& request, const ServedModel& model,
                                                const std::string& tenant);

grpc::Status ToGrpcStatus(const absl::Status& status);

class InferenceService final : public v1::Inference::CallbackService {
 public:
  explicit InferenceService(const GrpcContext& context) : context_(context) {}

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(grpc::CallbackServerContext* call,
                                                           const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* Quote(grpc::CallbackServerContext* call, const v1::QuoteRequest* request,
                                  v1::QuoteResponse* response) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* call, const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* call, const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;

 private:
  const GrpcContext context_;
};

}  // namespace hysparse
