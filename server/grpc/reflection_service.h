// Server reflection (grpc.reflection.v1alpha, what grpcurl asks) under the API key, answered from the descriptors that
// are compiled in. gRPC's own threads call it; stateless.
#pragma once

#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "server/auth.h"

namespace hysparse {

class ReflectionService final : public grpc::reflection::v1alpha::ServerReflection::CallbackService {
 public:
  explicit ReflectionService(const Auth& auth) : auth_(auth) {}

  grpc::ServerBidiReactor<grpc::reflection::v1alpha::ServerReflectionRequest,
                          grpc::reflection::v1alpha::ServerReflectionResponse>*
  ServerReflectionInfo(grpc::CallbackServerContext* context) override;

 private:
  const Auth& auth_;
};

}  // namespace hysparse
