// What the orchestrator and the monitoring ask: probes, version, metrics. They answer on the I/O thread from atomics,
// so they answer however busy everything else is.
#pragma once

#include <memory>

#include "server/http_exchange.h"

namespace hysparse {

class App;

void HandleLive(App& app, std::shared_ptr<HttpExchange> exchange);
void HandleReady(App& app, std::shared_ptr<HttpExchange> exchange);
void HandleStarted(App& app, std::shared_ptr<HttpExchange> exchange);
void HandleVersion(App& app, std::shared_ptr<HttpExchange> exchange);
void HandleMetrics(App& app, std::shared_ptr<HttpExchange> exchange);

}  // namespace hysparse
