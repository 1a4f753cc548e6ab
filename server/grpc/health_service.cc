#include "server/grpc/health_service.h"

#include <atomic>
#include <chrono>

#include "grpcpp/alarm.h"
#include "server/grpc/call_auth.h"

namespace hysparse {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

constexpr std::chrono::milliseconds kPollInterval(200);

// A stream that ends before it says anything.
class RefusedWatch final : public grpc::ServerWriteReactor<HealthCheckResponse> {
 public:
  explicit RefusedWatch(const grpc::Status& status) { Finish(status); }
  void OnDone() override { delete this; }
};

// Looks at the state every kPollInterval and writes when it has changed. One operation (write or alarm) is pending at a
// time, and only its completion finishes the call: a cancel is noticed at the next look.
class Watcher final : public grpc::ServerWriteReactor<HealthCheckResponse> {
 public:
  Watcher(const HealthService& service, std::string name) : service_(service), name_(std::move(name)) { Look(); }

  void OnWriteDone(bool ok) override { ok ? Wait() : End(); }
  void OnCancel() override { cancelled_.store(true); }
  void OnDone() override { delete this; }

 private:
  void Look() {
    const auto status = service_.Status(name_);
    if (said_ && status == response_.status()) return Wait();
    said_ = true;
    response_.set_status(status);
    StartWrite(&response_);
  }

  void Wait() {
    if (cancelled_.load()) return End();
    alarm_.Set(std::chrono::system_clock::now() + kPollInterval, [this](bool) { cancelled_.load() ? End() : Look(); });
  }

  void End() { Finish(grpc::Status::CANCELLED); }

  const HealthService& service_;
  const std::string name_;
  HealthCheckResponse response_;
  bool said_ = false;
  std::atomic<bool> cancelled_{false};
  grpc::Alarm alarm_;
};

}  // namespace

HealthCheckResponse::ServingStatus HealthService::Status(const std::string& service) const {
  if (!service.empty() && service != "hysparse.v1.Inference") return HealthCheckResponse::SERVICE_UNKNOWN;
  return ready_() ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
}

grpc::ServerUnaryReactor* HealthService::Check(grpc::CallbackServerContext* context, const HealthCheckRequest* request,
                                               HealthCheckResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (!Authenticate(auth_, *context)) {
    reactor->Finish(Unauthenticated());
    return reactor;
  }
  response->set_status(Status(request->service()));
  const bool unknown = response->status() == HealthCheckResponse::SERVICE_UNKNOWN;
  reactor->Finish(unknown ? grpc::Status(grpc::StatusCode::NOT_FOUND, "no service '" + request->service() + "'")
                          : grpc::Status::OK);
  return reactor;
}

grpc::ServerWriteReactor<HealthCheckResponse>* HealthService::Watch(grpc::CallbackServerContext* context,
                                                                    const HealthCheckRequest* request) {
  if (!Authenticate(auth_, *context)) return new RefusedWatch(Unauthenticated());
  return new Watcher(*this, request->service());
}

}  // namespace hysparse
