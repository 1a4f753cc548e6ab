#include "tests/unit/server/test_server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <thread>
#include <utility>

namespace hysparse {

using std::chrono::milliseconds;

std::string ClientResponse::Header(const std::string& name) const {
  std::string lower = head;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  const size_t at = lower.find("\r\n" + name + ": ");
  if (at == std::string::npos) return "";
  const size_t begin = at + name.size() + 4;
  return head.substr(begin, head.find("\r\n", begin) - begin);
}

Client::Client(uint16_t port, int receive_buffer) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
  if (receive_buffer > 0) setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
}

Client::~Client() { close(fd_); }

bool Client::Send(const std::string& bytes) {
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t n = send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) return false;
    sent += static_cast<size_t>(n);
  }
  return true;
}

void Client::FinishSending() { shutdown(fd_, SHUT_WR); }

void Client::Reset() {
  const linger now{1, 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  close(fd_);
  fd_ = socket(AF_INET, SOCK_STREAM, 0);
}

std::string Client::ReadSome(milliseconds timeout) {
  pollfd wait{fd_, POLLIN, 0};
  if (poll(&wait, 1, static_cast<int>(timeout.count())) <= 0) return "";
  char data[65536];
  const ssize_t n = recv(fd_, data, sizeof(data), 0);
  return n > 0 ? std::string(data, static_cast<size_t>(n)) : std::string();
}

bool Client::AtEnd(milliseconds timeout) {
  pollfd wait{fd_, POLLIN, 0};
  char byte;
  return buffer_.empty() && poll(&wait, 1, static_cast<int>(timeout.count())) > 0 && recv(fd_, &byte, 1, 0) <= 0;
}

std::string Client::ReadUntil(const std::string& mark, milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  while (buffer_.find(mark) == std::string::npos && Clock::now() < deadline) {
    const std::string more = ReadSome(timeout);
    if (more.empty()) break;
    buffer_ += more;
  }
  return buffer_;
}

ClientResponse Client::Read(milliseconds timeout) {
  ClientResponse response;
  do {
    ReadUntil("\r\n\r\n", timeout);
    const size_t end = buffer_.find("\r\n\r\n");
    if (end == std::string::npos) return response;
    response.head = buffer_.substr(0, end + 2);
    buffer_.erase(0, end + 4);
    response.status = std::atoi(response.head.c_str() + 9);
  } while (response.status == 100);
  const bool chunked = response.Header("transfer-encoding") == "chunked";
  const std::string length = response.Header("content-length");
  const auto deadline = Clock::now() + timeout;
  while (true) {
    if (chunked) {
      response.body = Unchunk(buffer_, &response.complete);
    } else if (!length.empty() && buffer_.size() >= std::stoul(length)) {
      response.body = buffer_.substr(0, std::stoul(length));
      buffer_.erase(0, std::stoul(length));
      response.complete = true;
    }
    if (response.complete || Clock::now() > deadline) break;
    const std::string more = ReadSome(timeout);
    if (more.empty()) break;
    buffer_ += more;
  }
  return response;
}

std::string Unchunk(const std::string& raw, bool* complete) {
  std::string out;
  for (size_t at = 0; at < raw.size();) {
    const size_t line = raw.find("\r\n", at);
    if (line == std::string::npos) break;
    const size_t size = std::stoul(raw.substr(at, line - at), nullptr, 16);
    if (size == 0) {
      *complete = true;
      break;
    }
    if (line + 2 + size + 2 > raw.size()) break;
    out += raw.substr(line + 2, size);
    at = line + 2 + size + 2;
  }
  return out;
}

std::string Post(const std::string& path, const std::string& body, const std::string& headers) {
  return "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + headers +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

nlohmann::json ChatBody(nlohmann::json fields) {
  fields["messages"] = {{{"role", "user"}, {"content", "hi"}}};
  return fields;
}
std::string Chat(nlohmann::json fields) { return Post("/v1/chat/completions", ChatBody(std::move(fields)).dump()); }
std::string Completion(const nlohmann::json& fields) { return Post("/v1/completions", fields.dump()); }

std::string Get(const std::string& path, const std::string& headers) {
  return "GET " + path + " HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n";
}

void ExpectRefused(uint16_t port, const std::string& request, int status) {
  Client client(port);
  client.Send(request);
  const ClientResponse r = client.Read();
  EXPECT_EQ(r.status, status) << request.substr(0, 200);
  EXPECT_TRUE(r.Json().contains("error")) << request.substr(0, 200);
  EXPECT_EQ(r.Header("connection"), "close") << request.substr(0, 200);
  EXPECT_TRUE(client.AtEnd()) << request.substr(0, 200);
}

ServerOptions QuickOptions() {
  ServerOptions options;
  options.port = 0;
  options.log_requests = false;
  options.header_timeout = milliseconds(400);
  options.body_timeout = milliseconds(400);
  options.idle_timeout = milliseconds(2000);
  options.write_timeout = milliseconds(500);
  options.keepalive_interval = milliseconds(100);
  options.drain_timeout = milliseconds(5000);
  return options;
}

TestServer::TestServer(ServerOptions options, bool with_model, int32_t max_model_len)
    : app_(std::make_unique<App>(std::move(options))) {
  EXPECT_TRUE(app_->Listen().ok());
  if (with_model) AttachModel(max_model_len);
}

TestServer::~TestServer() { app_->Stop(); }

void TestServer::AttachModel(int32_t max_model_len) {
  app_->AttachModel(MakeTestModel(script_, app_->observer(), max_model_len));
}

bool TestServer::AwaitIdle(milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  while (Clock::now() < deadline) {
    const EngineStats stats = Stats();
    if (stats.running == 0 && stats.waiting == 0 && stats.global.used() + stats.window.used() == 0) return true;
    std::this_thread::sleep_for(milliseconds(2));
  }
  return false;
}

}  // namespace hysparse
