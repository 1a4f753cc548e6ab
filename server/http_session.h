// HttpSession: one HTTP/1.1 connection from accept to close. It reads a request, lets the router judge its head before
// the body is read, hands it on as an HttpExchange, and writes the answer; then the next request. One request is in
// work at a time; pipelined ones wait in a bounded buffer.
//
// A read is always pending, so that a client that leaves is noticed while its answer is being computed, streaming or
// not. Bounded: head and body sizes, the time each phase may take, the bytes a stream's reader may lag behind.
// Everything private runs on the connection's strand; the HttpConnection calls may come from any thread.
#pragma once

#include <array>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "server/drain_gate.h"
#include "server/http_exchange.h"
#include "server/http_framing.h"
#include "server/http_routes.h"
#include "server/server_options.h"
#include "server/transport.h"

namespace hysparse {

class HttpSession : public HttpConnection, public std::enable_shared_from_this<HttpSession> {
 public:
  HttpSession(std::unique_ptr<Transport> transport, HttpRouter& router, const ServerOptions& options,
              std::function<void(HttpSession*)> on_closed);

  void Start();
  void Refuse();  // answers 503 and closes: there are too many connections
  void Stop();    // any thread: closes now

  void Respond(uint64_t exchange, HttpResponse response) override;
  void BeginStream(uint64_t exchange, std::string content_type) override;
  void Send(uint64_t exchange, std::string bytes) override;
  void EndStream(uint64_t exchange) override;
  void Abort(uint64_t exchange) override;

 private:
  enum class Phase : uint8_t { kHandshake, kHead, kBody, kAnswering, kLingering, kClosed };
  using BodyParser = boost::beast::http::request_parser<boost::beast::http::string_body>;

  // Reading.
  void Read();
  void OnRead(const boost::system::error_code& ec, size_t bytes);
  void OnPeerFinished();
  void Advance();
  bool AdvanceHead();
  bool AdvanceBody();
  void BeginRequest();
  bool Admit();
  void Dispatch();

  // Answering.
  void Reject(int status, std::string message);
  void LogRefusal(int status);
  void Answer(HttpResponse response);
  std::string Head(int status, const std::string& content_type, const HttpHeaders& headers) const;
  void Flush();
  void OnWritten(const boost::system::error_code& ec, size_t bytes);
  void FinishAnswer();
  void KeepAliveTick();
  template <typename F>
  void OnStrand(uint64_t exchange, F&& call);

  // Ending.
  void SetDeadline(std::chrono::milliseconds after);
  void OnDeadline();
  void Linger();
  void CutOff();  // the client is gone or stalled: cancels, closes
  void Close();

  const std::unique_ptr<Transport> transport_;
  HttpRouter& router_;
  const ServerOptions& options_;
  const std::function<void(HttpSession*)> on_closed_;
  std::string remote_;

  Phase phase_ = Phase::kHandshake;
  std::string input_;
  std::array<char, 8192> chunk_;
  bool reading_ = false, peer_finished_ = false;
  RequestHead head_;
  std::optional<BodyParser> body_;
  const Route* route_ = nullptr;

  // Of the request being read or answered.
  std::string request_id_, origin_;
  int version_ = 11;
  bool head_only_ = false;
  uint64_t exchange_number_ = 0;
  std::weak_ptr<HttpExchange> exchange_;
  std::optional<DrainGate::Pass> pass_;
  bool keep_alive_ = false, streaming_ = false, chunked_ = false, answer_complete_ = false;
  std::string pending_, writing_;  // bytes to be written; being written
  size_t written_ = 0;             // of writing_
  size_t lingered_ = 0;

  boost::asio::steady_timer deadline_, write_deadline_, keepalive_;
};

}  // namespace hysparse
