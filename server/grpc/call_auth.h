// The API key of a gRPC call: metadata "authorization: Bearer KEY", the same keys as over HTTP. Any thread.
#pragma once

#include <optional>
#include <string>

#include "grpcpp/server_context.h"
#include "server/auth.h"

namespace hysparse {

// The caller's tenant, or nothing when the call must be refused with `Unauthenticated()`.
inline std::optional<std::string> Authenticate(const Auth& auth, const grpc::ServerContextBase& context) {
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find("authorization");
  const grpc::string_ref value = found == metadata.end() ? grpc::string_ref() : found->second;
  return auth.Authenticate(std::string_view(value.data(), value.size()));
}

inline grpc::Status Unauthenticated() {
  return {grpc::StatusCode::UNAUTHENTICATED, "send the metadata 'authorization: Bearer KEY' with a valid API key"};
}

}  // namespace hysparse
