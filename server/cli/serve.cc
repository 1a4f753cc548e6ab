#include "server/cli/serve.h"

#include <spdlog/spdlog.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/base/result.h"
#include "server/app.h"
#include "server/cli/load_model.h"
#include "server/cli/logging.h"
#include "server/cli/model_folder.h"
#include "server/cli/progress_bar.h"
#include "server/cli/stop_signals.h"
#include "server/grpc/grpc_server.h"

namespace hysparse {
namespace {

std::string Url(const char* scheme, const std::string& host, uint16_t port) {
  const bool v6 = host.find(':') != std::string::npos;
  return absl::StrCat(scheme, "://", v6 ? "[" : "", host, v6 ? "]" : "", ":", port);
}

// Where the server listens: in the log for people, on stdout for programs that asked for port 0.
void Announce(const Config& config, const App& app, const GrpcServer& grpc) {
  const bool tls = !config.server.tls_certificate.empty();
  const std::string http = Url(tls ? "https" : "http", config.server.host, app.port());
  std::printf("listening on %s\n", http.c_str());
  spdlog::info("listening on {}", http);
  if (config.grpc_port >= 0) {
    const std::string url = Url(tls ? "grpcs" : "grpc", config.server.host, grpc.port());
    std::printf("listening on %s\n", url.c_str());
    spdlog::info("listening on {}", url);
  }
  std::fflush(stdout);
  if (config.server.api_keys.empty() && config.server.host != "127.0.0.1" && config.server.host != "::1") {
    spdlog::warn("anyone who reaches {} may use it: no --api-key is set", config.server.host);
  }
}

absl::Status LoadInto(App& app, const Config& config) {
  ProgressBar bar("loading " + config.model);
  LoadHooks hooks;
  hooks.observer = app.observer();
  hooks.progress = [&](double fraction) {
    app.SetLoadProgress(fraction);
    bar.Show(fraction);
  };
  absl::StatusOr<LoadedModel> loaded = LoadModel(config, hooks);
  if (!loaded.ok()) {
    app.SetLoadFailed();
    return loaded.status();
  }
  bar.Show(1);
  for (const std::string& line : loaded->summary) spdlog::info("{}", line);
  for (const std::string& line : loaded->warnings) spdlog::warn("{}", line);
  const std::string id = loaded->model->id();
  const double seconds = loaded->seconds;
  app.AttachModel(std::move(loaded->model));
  spdlog::info("ready: {} loaded in {:.1f} s", id, seconds);
  return absl::OkStatus();
}

}  // namespace

absl::Status RunServe(const Config& config) {
  HYSPARSE_RETURN_IF_ERROR(FindModel(config.model).status());  // a wrong name is said before a port is taken
  SetUpLogging(config.log_level, config.log_format);
  ::setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);  // its errors come back as statuses; no second line for them
  StopSignals signals;
  App app(config.server);
  HYSPARSE_RETURN_IF_ERROR(app.Listen());
  GrpcServer grpc(GrpcContext{.options = app.options(),
                              .auth = app.auth(),
                              .slot = app.slot(),
                              .gate = app.gate(),
                              .metrics = app.metrics(),
                              .worker_pool = app.request_pool(),
                              .text_pool = app.text_pool()},
                  [&app] { return app.health().Ready().ok; });
  if (config.grpc_port >= 0) HYSPARSE_RETURN_IF_ERROR(grpc.Start(static_cast<uint16_t>(config.grpc_port)));
  Announce(config, app, grpc);
  HYSPARSE_RETURN_IF_ERROR(LoadInto(app, config));
  signals.Arm();
  signals.Wait();
  const auto running = app.gate().inside();
  if (running > 0) spdlog::info("stopping: {} requests may finish; a second signal stops at once", running);
  const bool finished = app.Drain();
  if (!finished) spdlog::warn("the drain timeout has passed: what still runs is cut off");
  grpc.Shutdown(std::chrono::milliseconds(0));
  app.Stop();
  spdlog::info("stopped");
  return absl::OkStatus();
}

}  // namespace hysparse
