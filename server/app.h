// App: what one serving process is made of besides the engine: options, keys, health, metrics, the drain gate, the
// pools for text work and the HTTP server. It listens before the model is loaded, so that the probes answer from the
// first second; gRPC shares everything but the HTTP server.
//
//   App app(options);
//   HYSPARSE_RETURN_IF_ERROR(app.Listen());              // probes answer; the rest says 503, loading
//   app.SetLoadProgress(0.4);  …                          // seen by /startupz
//   model->engine = std::make_unique<Engine>(…, app.observer());  model->engine->Start();
//   app.AttachModel(std::move(model));                   // ready
//   app.Drain();  app.Stop();                            // SIGTERM
//
// Threads: I/O (options.io_threads), requests (worker_threads), text (one). Any thread may call anything but Listen,
// Drain and Stop, which are main's.
#pragma once

#include <boost/asio/thread_pool.hpp>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "server/auth.h"
#include "server/drain_gate.h"
#include "server/health.h"
#include "server/http_routes.h"
#include "server/http_server.h"
#include "server/metrics.h"
#include "server/served_model.h"
#include "server/server_options.h"

namespace hysparse {

class App {
 public:
  explicit App(ServerOptions options);
  ~App();  // Stop()

  absl::Status Listen();
  uint16_t port() const { return http_.port(); }

  void SetLoadProgress(double fraction) { health_.SetProgress(fraction); }
  void SetLoadFailed() { health_.SetFailed(); }
  void AttachModel(std::unique_ptr<ServedModel> model);

  // Not ready from now on, new requests get 503; returns when the running ones are answered (true) or the drain timeout
  // has passed.
  bool Drain();
  void Stop();  // cuts off what still runs, closes, joins; idempotent

  EngineObserver* observer() { return &metrics_; }
  std::shared_ptr<const ServedModel> model() const { return slot_.Get(); }  // null while loading
  const ModelSlot& slot() const { return slot_; }
  const ServerOptions& options() const { return options_; }
  const Auth& auth() const { return auth_; }
  DrainGate& gate() { return gate_; }
  Metrics& metrics() { return metrics_; }
  const Health& health() const { return health_; }
  boost::asio::thread_pool& request_pool() { return request_pool_; }  // parsing, templates, tokenising
  // Detokenising and formatting: apart, so that tokenising a long prompt delays nobody's stream.
  boost::asio::thread_pool& text_pool() { return text_pool_; }

 private:
  const ServerOptions options_;
  const Auth auth_;
  ModelSlot slot_;
  DrainGate gate_;
  Metrics metrics_;
  Health health_;
  boost::asio::thread_pool request_pool_, text_pool_;
  HttpRouter router_;
  HttpServer http_;
  bool stopped_ = false;
};

}  // namespace hysparse
