#include "server/probe_handlers.h"

#include <cmath>
#include <string>

#include "server/app.h"
#include "server/health.h"

namespace hysparse {
namespace {

HttpResponse ProbeResponse(const Health::Report& report) {
  const int percent = static_cast<int>(std::lround(report.progress * 100));
  return {report.ok ? 200 : 503,
          "application/json",
          "{\"status\":\"" + report.status + "\",\"load_percent\":" + std::to_string(percent) + "}",
          {}};
}

}  // namespace

void HandleLive(App& app, std::shared_ptr<HttpExchange> exchange) {
  exchange->Respond(ProbeResponse(app.health().Live()));
}

void HandleReady(App& app, std::shared_ptr<HttpExchange> exchange) {
  exchange->Respond(ProbeResponse(app.health().Ready()));
}

void HandleStarted(App& app, std::shared_ptr<HttpExchange> exchange) {
  exchange->Respond(ProbeResponse(app.health().Started()));
}

void HandleVersion(App&, std::shared_ptr<HttpExchange> exchange) {
  exchange->Respond({200, "application/json", "{\"version\":\"" HYSPARSE_VERSION "\"}", {}});
}

void HandleMetrics(App& app, std::shared_ptr<HttpExchange> exchange) {
  exchange->Respond({200, "text/plain; version=0.0.4; charset=utf-8", app.metrics().Scrape(), {}});
}

}  // namespace hysparse
