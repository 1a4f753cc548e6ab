#include "server/http_exchange.h"

#include "server/error_map.h"
#include "server/openai/format.h"

namespace hysparse {

std::string_view HttpRequest::Header(std::string_view lower_case_name) const {
  for (const auto& [name, value] : headers) {
    if (name == lower_case_name) return value;
  }
  return {};
}

HttpExchange::HttpExchange(std::shared_ptr<HttpConnection> connection, uint64_t number, HttpRequest request, bool log,
                           bool log_json)
    : connection_(std::move(connection)),
      number_(number),
      request_(std::move(request)),
      log_(log),
      log_json_(log_json) {
  record_.id = request_.id;
  record_.method = request_.method;
  record_.path = request_.path;
  record_.remote = request_.remote;
}

HttpExchange::~HttpExchange() {
  if (answer_ != Answer::kComplete) {
    if (disconnected_ || answer_ == Answer::kStreaming) {
      connection_->Abort(number_);
    } else {
      Respond(openai::ErrorResponse(HttpError(500, "The server did not answer this request.")));
    }
    if (disconnected_) record_.status = 499;
  }
  if (log_) LogAccess(record_, log_json_);
}

void HttpExchange::Respond(HttpResponse response) {
  answer_ = Answer::kComplete;
  record_.status = response.status;
  connection_->Respond(number_, std::move(response));
}

void HttpExchange::BeginStream(std::string content_type) {
  answer_ = Answer::kStreaming;
  record_.status = 200;
  record_.stream = true;
  connection_->BeginStream(number_, std::move(content_type));
}

void HttpExchange::EndStream() {
  answer_ = Answer::kComplete;
  connection_->EndStream(number_);
}

void HttpExchange::OnDisconnect(std::function<void()> cancel) {
  {
    std::lock_guard lock(mutex_);
    if (!disconnected_) {
      cancel_ = std::move(cancel);
      return;
    }
  }
  cancel();
}

bool HttpExchange::Disconnect() {
  std::function<void()> cancel;
  {
    std::lock_guard lock(mutex_);
    disconnected_ = true;
    cancel.swap(cancel_);
  }
  if (!cancel) return false;
  cancel();
  return true;
}

}  // namespace hysparse
