#include "server/http_routes.h"

#include <algorithm>
#include <string>

#include "server/app.h"
#include "server/error_map.h"
#include "server/openai/format.h"
#include "server/openai/handlers.h"
#include "server/probe_handlers.h"

namespace hysparse {
namespace {

constexpr Route kRoutes[] = {
    {"POST", "/v1/chat/completions", Route::kKey, Route::kUntilDrain, openai::HandleChat},
    {"POST", "/v1/completions", Route::kKey, Route::kUntilDrain, openai::HandleCompletions},
    {"POST", "/v1/responses", Route::kKey, Route::kUntilDrain, openai::HandleResponses},
    {"GET", "/v1/models", Route::kKey, Route::kAlways, openai::HandleModels},
    {"GET", "/v1/models/*", Route::kKey, Route::kAlways, openai::HandleModel},
    {"POST", "/v1/capacity", Route::kKey, Route::kUntilDrain, openai::HandleCapacity},
    {"POST", "/tokenize", Route::kKey, Route::kUntilDrain, openai::HandleTokenize},
    {"POST", "/detokenize", Route::kKey, Route::kUntilDrain, openai::HandleDetokenize},
    {"GET", "/version", Route::kKey, Route::kAlways, HandleVersion},
    {"GET", "/metrics", Route::kKey, Route::kAlways, HandleMetrics},
    {"GET", "/livez", Route::kOpen, Route::kAlways, HandleLive},
    {"GET", "/readyz", Route::kOpen, Route::kAlways, HandleReady},
    {"GET", "/health", Route::kOpen, Route::kAlways, HandleReady},
    {"GET", "/startupz", Route::kOpen, Route::kAlways, HandleStarted},
};

bool PathMatches(std::string_view pattern, std::string_view path) {
  if (!pattern.ends_with("/*")) return path == pattern;
  const std::string_view prefix = pattern.substr(0, pattern.size() - 1);
  return path.starts_with(prefix) && path.size() > prefix.size();
}

bool MethodMatches(std::string_view method, std::string_view asked) {
  return method == asked || (method == "GET" && asked == "HEAD");
}

HttpResponse Refusal(int status, std::string message) {
  return openai::ErrorResponse(HttpError(status, std::move(message)));
}

// A body of any other declared type is refused: a page of another origin could send it without the browser asking
// first.
bool JsonOrUnsaid(std::string_view content_type) {
  std::string type(content_type.substr(0, content_type.find(';')));
  while (!type.empty() && (type.back() == ' ' || type.back() == '\t')) type.pop_back();
  std::transform(type.begin(), type.end(), type.begin(), [](unsigned char c) { return std::tolower(c); });
  return type.empty() || type == "application/json";
}

}  // namespace

const Route* HttpRouter::Admit(HttpRequest* request, std::optional<DrainGate::Pass>* pass,
                               HttpResponse* refusal) const {
  const Route* route = nullptr;
  bool known = false, open = false;
  std::string allow;
  for (const Route& r : kRoutes) {
    if (!PathMatches(r.path, request->path)) continue;
    known = true;
    open = r.access == Route::kOpen;
    allow += std::string(allow.empty() ? "" : ", ") + r.method + (std::string_view(r.method) == "GET" ? ", HEAD" : "");
    if (MethodMatches(r.method, request->method)) route = &r;
  }
  const bool preflight = request->method == "OPTIONS" && known && OriginAllowed(request->Header("origin")) &&
                         !request->Header("access-control-request-method").empty();
  if (preflight) {
    *refusal = Options(*request, allow);
    return nullptr;
  }
  const std::optional<std::string> tenant = app_.auth().Authenticate(request->Header("authorization"));
  if (!open && !tenant) {
    *refusal = openai::ErrorResponse(ToApiError(absl::UnauthenticatedError(
        "The API key is missing or wrong. Send it as the header \"Authorization: Bearer KEY\".")));
    refusal->headers.emplace_back("www-authenticate", "Bearer");
    return nullptr;
  }
  request->tenant = tenant.value_or("");
  if (!known) {
    *refusal = Refusal(404, "There is nothing at " + request->path + ".");
  } else if (request->method == "OPTIONS") {
    *refusal = Options(*request, allow);
  } else if (route == nullptr) {
    *refusal =
        Refusal(405, request->path + " does not know the method " + request->method + "; it knows " + allow + ".");
    refusal->headers.emplace_back("allow", allow);
  } else if (route->drain == Route::kUntilDrain && !JsonOrUnsaid(request->Header("content-type"))) {
    *refusal = Refusal(415, "The body must be JSON: send the header \"Content-Type: application/json\".");
  } else if (const auto coding = request->Header("content-encoding"); !coding.empty() && coding != "identity") {
    *refusal = Refusal(415, "The body must not be compressed.");
  } else if (route->drain == Route::kUntilDrain && !(*pass = app_.gate().Enter())) {
    *refusal =
        openai::ErrorResponse(ToApiError(absl::UnavailableError("The server is shutting down. Try another one.")));
  } else {
    return route;
  }
  return nullptr;
}

void HttpRouter::Handle(const Route& route, std::shared_ptr<HttpExchange> exchange) const {
  route.handle(app_, std::move(exchange));
}

bool HttpRouter::draining() const { return app_.gate().closed(); }

void HttpRouter::CountResponse(int status) const { app_.metrics().CountHttp(status); }

bool HttpRouter::OriginAllowed(std::string_view origin) const {
  const auto& allowed = app_.options().cors_origins;
  return !origin.empty() &&
         std::any_of(allowed.begin(), allowed.end(), [&](const std::string& a) { return a == "*" || a == origin; });
}

HttpHeaders HttpRouter::CorsHeaders(std::string_view origin) const {
  if (app_.options().cors_origins.empty()) return {};
  if (!OriginAllowed(origin)) return {{"vary", "Origin"}};
  return {{"access-control-allow-origin", std::string(origin)},
          {"access-control-expose-headers", "x-request-id"},
          {"vary", "Origin"}};
}

HttpResponse HttpRouter::Options(const HttpRequest& request, std::string_view allow) const {
  HttpResponse response{204, "", "", {{"allow", std::string(allow)}}};
  if (OriginAllowed(request.Header("origin"))) {
    response.headers.emplace_back("access-control-allow-methods", std::string(allow));
    response.headers.emplace_back("access-control-allow-headers", "authorization, content-type, x-request-id");
    response.headers.emplace_back("access-control-max-age", "600");
  }
  return response;
}

}  // namespace hysparse
