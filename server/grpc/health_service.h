// grpc.health.v1.Health under the API key: Check answers at once, Watch streams changes. SERVING means that the model
// is loaded and the server does not drain, for "" and "hysparse.v1.Inference"; other services are NOT_FOUND, as the
// standard says. gRPC's own threads call it.
#pragma once

#include <functional>
#include <string>

#include "grpc/health/v1/health.grpc.pb.h"
#include "server/auth.h"

namespace hysparse {

class HealthService final : public grpc::health::v1::Health::CallbackService {
 public:
  // `ready` is called from any thread and must not block.
  HealthService(const Auth& auth, std::function<bool()> ready) : auth_(auth), ready_(std::move(ready)) {}

  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* context,
                                  const grpc::health::v1::HealthCheckRequest* request,
                                  grpc::health::v1::HealthCheckResponse* response) override;
  grpc::ServerWriteReactor<grpc::health::v1::HealthCheckResponse>* Watch(
      grpc::CallbackServerContext* context, const grpc::health::v1::HealthCheckRequest* request) override;

  grpc::health::v1::HealthCheckResponse::ServingStatus Status(const std::string& service) const;

 private:
  const Auth& auth_;
  const std::function<bool()> ready_;
};

}  // namespace hysparse
