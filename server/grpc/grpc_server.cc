#include "server/grpc/grpc_server.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/file.h"
#include "engine/base/result.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server_builder.h"

namespace hysparse {
namespace {

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> Credentials(const ServerOptions& options) {
  if (options.tls_certificate.empty()) return grpc::InsecureServerCredentials();
  grpc::SslServerCredentialsOptions tls;
  HYSPARSE_ASSIGN_OR_RETURN(std::string key, ReadFile(options.tls_key));
  HYSPARSE_ASSIGN_OR_RETURN(std::string certificate, ReadFile(options.tls_certificate));
  tls.pem_key_cert_pairs.push_back({std::move(key), std::move(certificate)});
  return grpc::SslServerCredentials(tls);
}

std::string Address(const std::string& host, uint16_t port) {
  return host.find(':') == std::string::npos ? absl::StrCat(host, ":", port) : absl::StrCat("[", host, "]:", port);
}

}  // namespace

GrpcServer::GrpcServer(const GrpcContext& context, std::function<bool()> ready)
    : options_(context.options),
      inference_(context),
      health_(context.auth, std::move(ready)),
      reflection_(context.auth) {}

GrpcServer::~GrpcServer() { Shutdown(std::chrono::milliseconds(0)); }

absl::Status GrpcServer::Start(uint16_t port) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto credentials, Credentials(options_));
  const std::string address = Address(options_.host, port);
  grpc::ServerBuilder builder;
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // a taken port is an error, not a shared one
  builder.AddListeningPort(address, credentials, &port_);
  builder.SetMaxReceiveMessageSize(static_cast<int>(options_.max_body_bytes));
  builder.RegisterService(&inference_);
  builder.RegisterService(&health_);
  builder.RegisterService(&reflection_);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr || port_ == 0) {
    return absl::UnavailableError(absl::StrCat("gRPC cannot listen on ", address, ": choose another --grpc-port"));
  }
  return absl::OkStatus();
}

void GrpcServer::Shutdown(std::chrono::milliseconds grace) {
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now() + grace);
  server_->Wait();
  server_.reset();
}

}  // namespace hysparse
