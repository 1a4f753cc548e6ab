// GrpcServer: the gRPC front end's port and services. Started by main beside the HTTP server; gRPC brings its own
// threads.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "grpcpp/server.h"
#include "server/grpc/health_service.h"
#include "server/grpc/inference_service.h"
#include "server/grpc/reflection_service.h"

namespace hysparse {

class GrpcServer {
 public:
  // `ready` feeds the health service: any thread, must not block.
  GrpcServer(const GrpcContext& context, std::function<bool()> ready);
  ~GrpcServer();  // Shutdown(0)

  // Binds options.host and `port` (0: any free one), with TLS when the options name a certificate. Unavailable when the
  // port is taken; InvalidArgument for an unreadable certificate or key.
  absl::Status Start(uint16_t port);
  uint16_t port() const { return static_cast<uint16_t>(port_); }

  // Takes no new calls; those still running after `grace` are cancelled. Idempotent; main's thread.
  void Shutdown(std::chrono::milliseconds grace);

 private:
  const ServerOptions& options_;
  InferenceService inference_;
  HealthService health_;
  ReflectionService reflection_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace hysparse
