// HttpRouter: from a request's head to its handler. Every route but the probes needs the API key; whatever is not in
// the table is refused. Immutable after construction; any thread.
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "server/drain_gate.h"
#include "server/http_exchange.h"

namespace hysparse {

class App;

struct Route {
  const char* method;  // GET answers HEAD too
  const char* path;    // ending in "/*": everything below
  enum Access : uint8_t { kOpen, kKey } access;
  enum Drain : uint8_t { kAlways, kUntilDrain } drain;  // kUntilDrain: 503 once a drain has begun, which waits for it
  void (*handle)(App& app, std::shared_ptr<HttpExchange> exchange);
};

class HttpRouter {
 public:
  explicit HttpRouter(App& app) : app_(app) {}

  // Judges a request before its body is read. The route (with `request->tenant` and `pass` filled in), or null and why.
  const Route* Admit(HttpRequest* request, std::optional<DrainGate::Pass>* pass, HttpResponse* refusal) const;
  void Handle(const Route& route, std::shared_ptr<HttpExchange> exchange) const;

  bool draining() const;
  void CountResponse(int status) const;
  HttpHeaders CorsHeaders(std::string_view origin) const;

 private:
  bool OriginAllowed(std::string_view origin) const;
  HttpResponse Options(const HttpRequest& request, std::string_view allow) const;

  App& app_;
};

}  // namespace hysparse
