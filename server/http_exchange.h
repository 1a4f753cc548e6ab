// HttpExchange: one HTTP request and its answer, as a route's handler sees them. The request is read-only; the
// answering calls may come from any thread and are carried to the connection's own. An exchange that is dropped
// unanswered answers 500, and a stream that is dropped unended is cut off visibly, so no client waits for ever.
//
//   exchange->Respond({200, "application/json", body});                             // or, for a stream:
//   exchange->OnDisconnect([session] { session->Cancel(); });
//   exchange->BeginStream("text/event-stream; charset=utf-8");
//   exchange->Send("data: …\n\n");  …  exchange->EndStream();
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/access_log.h"

namespace hysparse {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;  // names in lower case

struct HttpRequest {
  std::string method, target;  // as sent
  std::string path;            // percent-decoded, without the query
  int version = 11;            // 10 or 11
  HttpHeaders headers;
  std::string body;
  std::string id;      // x-request-id: the client's if sane, else ours
  std::string tenant;  // of the API key; "" when the server is open
  std::string remote;  // address:port

  std::string_view Header(std::string_view lower_case_name) const;  // "" when absent
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  HttpHeaders headers;
};

// The connection's half; any thread. `exchange` tells a late call for an earlier request apart.
class HttpConnection {
 public:
  virtual ~HttpConnection() = default;
  virtual void Respond(uint64_t exchange, HttpResponse response) = 0;
  virtual void BeginStream(uint64_t exchange, std::string content_type) = 0;
  virtual void Send(uint64_t exchange, std::string bytes) = 0;
  virtual void EndStream(uint64_t exchange) = 0;
  virtual void Abort(uint64_t exchange) = 0;
};

class HttpExchange {
 public:
  HttpExchange(std::shared_ptr<HttpConnection> connection, uint64_t number, HttpRequest request, bool log,
               bool log_json);
  ~HttpExchange();

  const HttpRequest& request() const { return request_; }
  AccessRecord& record() { return record_; }  // the handler's, until it drops the exchange

  void Respond(HttpResponse response);
  void BeginStream(std::string content_type);
  void Send(std::string bytes) { connection_->Send(number_, std::move(bytes)); }
  void EndStream();

  // Runs `cancel` once when the client leaves (or stalls) before the answer is complete; at once if it already has.
  void OnDisconnect(std::function<void()> cancel);
  bool disconnected() const { return disconnected_; }
  bool Disconnect();  // the connection's side; true when there was something to cancel

 private:
  enum class Answer : uint8_t { kNone, kStreaming, kComplete };
  const std::shared_ptr<HttpConnection> connection_;
  const uint64_t number_;
  const HttpRequest request_;
  const bool log_, log_json_;
  AccessRecord record_;
  std::atomic<Answer> answer_{Answer::kNone};
  std::atomic<bool> disconnected_{false};
  std::mutex mutex_;  // guards cancel_
  std::function<void()> cancel_;
};

}  // namespace hysparse
