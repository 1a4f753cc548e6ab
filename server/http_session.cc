#include "server/http_session.h"

#include <boost/asio/post.hpp>
#include <utility>

#include "server/error_map.h"
#include "server/http_text.h"
#include "server/openai/format.h"

namespace hysparse {
namespace {

namespace http = boost::beast::http;
using boost::system::error_code;

constexpr size_t kPipelineBytes = 64 << 10;  // of later requests, while one is being answered
constexpr size_t kLingerBytes = 1 << 20;     // read and dropped after the last answer
constexpr std::chrono::milliseconds kLingerTime{2000}, kPeerCheck{1000};

}  // namespace

HttpSession::HttpSession(std::unique_ptr<Transport> transport, HttpRouter& router, const ServerOptions& options,
                         std::function<void(HttpSession*)> on_closed)
    : transport_(std::move(transport)),
      router_(router),
      options_(options),
      on_closed_(std::move(on_closed)),
      remote_(transport_->RemoteName()),
      deadline_(transport_->socket().get_executor()),
      write_deadline_(transport_->socket().get_executor()),
      keepalive_(transport_->socket().get_executor()) {}

void HttpSession::Start() {
  boost::asio::post(transport_->socket().get_executor(), [self = shared_from_this()] {
    self->SetDeadline(self->options_.header_timeout);
    self->transport_->Handshake([self](const error_code& ec, size_t) {
      if (ec || self->phase_ == Phase::kClosed) return self->Close();
      self->phase_ = Phase::kHead;
      self->SetDeadline(self->options_.idle_timeout);
      self->Read();
    });
  });
}

void HttpSession::Refuse() {
  boost::asio::post(transport_->socket().get_executor(), [self = shared_from_this()] {
    self->SetDeadline(self->options_.header_timeout);
    self->transport_->Handshake([self](const error_code& ec, size_t) {
      if (ec || self->phase_ == Phase::kClosed) return self->Close();
      self->Reject(503, "The server has too many connections.");
    });
  });
}

void HttpSession::Stop() {
  boost::asio::post(transport_->socket().get_executor(), [self = shared_from_this()] { self->CutOff(); });
}

// ---- Reading

void HttpSession::Read() {
  if (reading_ || peer_finished_ || phase_ == Phase::kClosed) return;
  if (phase_ == Phase::kAnswering && input_.size() >= kPipelineBytes) return SetDeadline(kPeerCheck);
  reading_ = true;
  transport_->ReadSome(boost::asio::buffer(chunk_),
                       [self = shared_from_this()](const error_code& ec, size_t bytes) { self->OnRead(ec, bytes); });
}

void HttpSession::OnRead(const error_code& ec, size_t bytes) {
  reading_ = false;
  if (phase_ == Phase::kClosed) return;
  if (ec == boost::asio::error::eof || ec == boost::asio::ssl::error::stream_truncated) return OnPeerFinished();
  if (ec) return CutOff();
  if (phase_ == Phase::kLingering) {
    lingered_ += bytes;
    return lingered_ > kLingerBytes ? Close() : Read();
  }
  const bool first_byte = phase_ == Phase::kHead && input_.empty();
  input_.append(chunk_.data(), bytes);
  if (first_byte) SetDeadline(options_.header_timeout);
  Advance();
  Read();
}

// The client will send no more: it has left, unless all it wants is the answer that is being written.
void HttpSession::OnPeerFinished() {
  peer_finished_ = true;
  keep_alive_ = false;
  if (phase_ != Phase::kAnswering) return Close();
  const auto exchange = exchange_.lock();
  if (exchange != nullptr && exchange->Disconnect()) Close();
}

void HttpSession::Advance() {
  bool more = true;
  while (more) {
    more = (phase_ == Phase::kHead && AdvanceHead()) || (phase_ == Phase::kBody && AdvanceBody());
  }
}

// True when the phase has changed and there may be more to do.
bool HttpSession::AdvanceHead() {
  while (input_.compare(0, 2, "\r\n") == 0) input_.erase(0, 2);  // RFC 9112: empty lines before a request
  const size_t end = FindHeadEnd(input_);
  if (std::min(end, input_.size()) > options_.max_header_bytes) {
    Reject(431,
           "The request head is larger than the " + std::to_string(options_.max_header_bytes) + " bytes accepted.");
    return false;
  }
  if (end == std::string::npos) return false;
  const std::string text = input_.substr(0, end);
  input_.erase(0, end);
  BeginRequest();
  const HeadError error = ParseHead(text, options_.max_body_bytes, &head_);
  HttpRequest& request = head_.request;
  request.remote = remote_;
  request.id = request_id_ = RequestId(request.Header("x-request-id"));
  origin_ = std::string(request.Header("origin"));
  head_only_ = request.method == "HEAD";
  version_ = request.version;
  if (error.status != 0) {
    Reject(error.status, error.message);
    return false;
  }
  keep_alive_ = head_.keep_alive;
  if (!Admit()) return false;
  error_code ec;
  body_->put(boost::asio::buffer(text), ec);
  if (ec && ec != http::error::need_more) {
    Reject(400, "The request head is malformed.");
    return false;
  }
  if (head_.expect_continue && input_.empty()) {
    pending_ += "HTTP/1.1 100 Continue\r\n\r\n";
    Flush();
  }
  phase_ = Phase::kBody;
  SetDeadline(options_.body_timeout);
  return true;
}

void HttpSession::BeginRequest() {
  head_ = RequestHead();
  body_.emplace();
  body_->header_limit(static_cast<uint32_t>(options_.max_header_bytes + 1));
  body_->body_limit(options_.max_body_bytes);
  body_->eager(true);
  ++exchange_number_;
  exchange_.reset();
  streaming_ = chunked_ = answer_complete_ = false;
}

// Asks the router; an error is answered without the body, and so ends the connection if there is one.
bool HttpSession::Admit() {
  HttpResponse refusal;
  route_ = router_.Admit(&head_.request, &pass_, &refusal);
  if (route_ != nullptr) return true;
  if (head_.chunked || head_.content_length > 0) keep_alive_ = false;
  LogRefusal(refusal.status);
  Answer(std::move(refusal));
  return false;
}

bool HttpSession::AdvanceBody() {
  while (!body_->is_done() && !input_.empty()) {
    error_code ec;
    const size_t used = body_->put(boost::asio::buffer(input_), ec);
    input_.erase(0, used);
    if (ec == http::error::need_more) {
      if (input_.size() <= options_.max_header_bytes) break;
      ec = http::error::bad_chunk_extension;
    }
    if (ec == http::error::body_limit) {
      Reject(413, "The request body is larger than the " + std::to_string(options_.max_body_bytes) +
                      " bytes that are accepted.");
      return false;
    }
    if (ec) {
      Reject(400, "The request body is malformed.");
      return false;
    }
    if (used == 0) break;
  }
  if (!body_->is_done()) return false;
  Dispatch();
  return false;
}

void HttpSession::Dispatch() {
  phase_ = Phase::kAnswering;
  deadline_.cancel();
  head_.request.body = std::move(body_->get().body());
  body_.reset();
  const auto exchange = std::make_shared<HttpExchange>(shared_from_this(), exchange_number_, std::move(head_.request),
                                                       options_.log_requests, options_.log_json);
  exchange_ = exchange;
  router_.Handle(*route_, exchange);
}

// ---- Answering

// A request that cannot be understood: the connection ends with it, as nobody knows where the next one begins.
void HttpSession::Reject(int status, std::string message) {
  ++exchange_number_;
  if (request_id_.empty()) request_id_ = RequestId({});
  keep_alive_ = false;
  input_.clear();
  LogRefusal(status);
  Answer(openai::ErrorResponse(HttpError(status, std::move(message))));
}

void HttpSession::LogRefusal(int status) {
  if (!options_.log_requests) return;
  AccessRecord record;
  record.id = request_id_;
  record.method = head_.request.method;
  record.path = head_.request.path;
  record.remote = remote_;
  record.status = status;
  LogAccess(record, options_.log_json);
}

void HttpSession::Answer(HttpResponse response) {
  phase_ = Phase::kAnswering;
  deadline_.cancel();
  router_.CountResponse(response.status);
  if (router_.draining()) keep_alive_ = false;
  response.headers.emplace_back("content-length", std::to_string(response.body.size()));
  pending_ += Head(response.status, response.content_type, response.headers);
  if (!head_only_) pending_ += response.body;
  answer_complete_ = true;
  Flush();
}

template <typename F>
void HttpSession::OnStrand(uint64_t exchange, F&& call) {
  boost::asio::post(transport_->socket().get_executor(),
                    [this, self = shared_from_this(), exchange, call = std::forward<F>(call)]() mutable {
                      if (phase_ == Phase::kAnswering && exchange == exchange_number_ && !answer_complete_) call();
                    });
}

void HttpSession::Respond(uint64_t exchange, HttpResponse response) {
  OnStrand(exchange, [this, response = std::move(response)]() mutable { Answer(std::move(response)); });
}

void HttpSession::BeginStream(uint64_t exchange, std::string content_type) {
  OnStrand(exchange, [this, content_type = std::move(content_type)] {
    router_.CountResponse(200);
    streaming_ = true;
    chunked_ = version_ == 11;
    if (!chunked_ || router_.draining()) keep_alive_ = false;
    HttpHeaders headers = {{"cache-control", "no-cache"}, {"x-accel-buffering", "no"}};
    if (chunked_) headers.emplace_back("transfer-encoding", "chunked");
    pending_ += Head(200, content_type, headers);
    Flush();
    KeepAliveTick();
  });
}

void HttpSession::Send(uint64_t exchange, std::string bytes) {
  OnStrand(exchange, [this, bytes = std::move(bytes)] {
    if (bytes.empty()) return;
    pending_ += chunked_ ? Chunk(bytes) : bytes;
    if (pending_.size() + writing_.size() - written_ > options_.max_stream_backlog_bytes) return CutOff();
    Flush();
    KeepAliveTick();
  });
}

void HttpSession::EndStream(uint64_t exchange) {
  OnStrand(exchange, [this] {
    if (chunked_) pending_ += "0\r\n\r\n";
    answer_complete_ = true;
    keepalive_.cancel();
    Flush();
  });
}

void HttpSession::Abort(uint64_t exchange) {
  OnStrand(exchange, [this] { Close(); });
}

std::string HttpSession::Head(int status, const std::string& content_type, const HttpHeaders& headers) const {
  HttpHeaders all = {{"date", HttpDate()}, {"x-request-id", request_id_}};
  if (!content_type.empty()) all.emplace_back("content-type", content_type);
  if (!keep_alive_) all.emplace_back("connection", "close");
  all.insert(all.end(), headers.begin(), headers.end());
  for (auto& header : router_.CorsHeaders(origin_)) all.push_back(std::move(header));
  return ResponseHead(status, all);
}

void HttpSession::Flush() {
  if (phase_ == Phase::kClosed || !writing_.empty()) return;
  if (pending_.empty()) {
    if (answer_complete_ && phase_ == Phase::kAnswering) FinishAnswer();
    return;
  }
  writing_.swap(pending_);
  OnWritten({}, 0);
}

void HttpSession::OnWritten(const error_code& ec, size_t bytes) {
  if (phase_ == Phase::kClosed) return;
  if (ec) return CutOff();
  written_ += bytes;
  if (written_ == writing_.size()) {
    write_deadline_.cancel();
    writing_.clear();
    written_ = 0;
    return Flush();
  }
  write_deadline_.expires_after(options_.write_timeout);
  write_deadline_.async_wait([self = shared_from_this()](const error_code& timer) {
    if (!timer && self->write_deadline_.expiry() <= Clock::now()) self->CutOff();
  });
  transport_->WriteSome(boost::asio::buffer(writing_) + written_,
                        [self = shared_from_this()](const error_code& error, size_t n) { self->OnWritten(error, n); });
}

void HttpSession::FinishAnswer() {
  pass_.reset();
  exchange_.reset();
  streaming_ = false;
  if (!keep_alive_ || peer_finished_) return Linger();
  phase_ = Phase::kHead;
  SetDeadline(input_.empty() ? options_.idle_timeout : options_.header_timeout);
  // Not from here: the stack would grow with every pipelined request.
  boost::asio::post(transport_->socket().get_executor(), [self = shared_from_this()] {
    self->Advance();
    self->Read();
  });
}

// A stream that has said nothing for a while says ": ", which clients skip and proxies take for life.
void HttpSession::KeepAliveTick() {
  keepalive_.expires_after(options_.keepalive_interval);
  keepalive_.async_wait([self = shared_from_this()](const error_code& ec) {
    if (ec || self->phase_ != Phase::kAnswering || !self->streaming_ || self->answer_complete_) return;
    if (self->pending_.empty() && self->writing_.empty()) {
      self->pending_ += self->chunked_ ? Chunk(": keep-alive\n\n") : ": keep-alive\n\n";
      self->Flush();
    }
    self->KeepAliveTick();
  });
}

// ---- Ending

void HttpSession::SetDeadline(std::chrono::milliseconds after) {
  deadline_.expires_after(after);
  deadline_.async_wait([self = shared_from_this()](const error_code& ec) {
    if (!ec && self->deadline_.expiry() <= Clock::now()) self->OnDeadline();
  });
}

void HttpSession::OnDeadline() {
  switch (phase_) {
    case Phase::kHead:
      if (input_.empty()) return Close();
      return Reject(408, "The request head did not arrive in time.");
    case Phase::kBody:
      return Reject(408, "The request body did not arrive in time.");
    case Phase::kAnswering:
      if (transport_->PeerHasClosed()) return OnPeerFinished();
      return Read();
    default:
      return Close();
  }
}

// Reads what the client still sends before closing: a close with unread bytes would reset the connection and could
// destroy the answer on its way.
void HttpSession::Linger() {
  phase_ = Phase::kLingering;
  lingered_ = 0;
  input_.clear();
  SetDeadline(kLingerTime);
  transport_->ShutdownSend([self = shared_from_this()](const error_code&, size_t) {
    if (self->peer_finished_) self->Close();
  });
  if (!reading_) Read();
}

void HttpSession::CutOff() {
  if (const auto exchange = exchange_.lock()) exchange->Disconnect();
  Close();
}

void HttpSession::Close() {
  if (phase_ == Phase::kClosed) return;
  phase_ = Phase::kClosed;
  deadline_.cancel();
  write_deadline_.cancel();
  keepalive_.cancel();
  pass_.reset();
  error_code ignored;
  transport_->socket().close(ignored);
  on_closed_(this);
}

}  // namespace hysparse
