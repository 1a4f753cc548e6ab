// A server on a loopback port and a client made of plain sockets, which can send what no HTTP library would.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "nlohmann/json.hpp"
#include "server/app.h"
#include "tests/unit/server/test_model.h"

namespace hysparse {

struct ClientResponse {
  int status = 0;  // 0: the connection ended before a head
  std::string head, body;
  bool complete = false;  // the body's framing says so
  std::string Header(const std::string& lower_case_name) const;
  nlohmann::json Json() const { return nlohmann::json::parse(body, nullptr, false); }
};

class Client {
 public:
  explicit Client(uint16_t port, int receive_buffer = 0);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool Send(const std::string& bytes);  // false: the server has closed
  void FinishSending();
  void Reset();  // RST instead of FIN
  // One response; interim ones (100) are skipped. `timeout` for the whole of it.
  ClientResponse Read(std::chrono::milliseconds timeout = std::chrono::seconds(20));
  std::string ReadSome(std::chrono::milliseconds timeout = std::chrono::seconds(20));  // "" at the end or the timeout
  bool AtEnd(std::chrono::milliseconds timeout = std::chrono::seconds(20));  // the server closed, nothing more came
  std::string ReadUntil(const std::string& mark, std::chrono::milliseconds timeout = std::chrono::seconds(20));

 private:
  int fd_ = -1;
  std::string buffer_;
};

std::string Post(const std::string& path, const std::string& body, const std::string& headers = "");
// POSTs of a valid request with these fields besides: "hi" to chat; completions bring their own prompt.
nlohmann::json ChatBody(nlohmann::json fields = nlohmann::json::object());
std::string Chat(nlohmann::json fields = nlohmann::json::object());
std::string Completion(const nlohmann::json& fields);
std::string Get(const std::string& path, const std::string& headers = "");
// A chunked body's content; `complete` when the last chunk is there.
std::string Unchunk(const std::string& raw, bool* complete);

// An error of the HTTP layer: `status` with the API's error object, and the connection closed.
void ExpectRefused(uint16_t port, const std::string& request, int status);

ServerOptions QuickOptions();  // short timeouts, no access log

// App with a scripted model, on its own port; drained of nothing at the end.
class TestServer {
 public:
  explicit TestServer(ServerOptions options = QuickOptions(), bool with_model = true, int32_t max_model_len = 512);
  ~TestServer();

  App& app() { return *app_; }
  uint16_t port() const { return app_->port(); }
  const std::shared_ptr<Script>& script() { return script_; }
  void AttachModel(int32_t max_model_len = 512);

  ClientResponse Exchange(const std::string& request) {
    Client client(port());
    client.Send(request);
    return client.Read();
  }
  EngineStats Stats() { return app_->model()->engine->Stats(); }
  bool AwaitIdle(std::chrono::milliseconds timeout = std::chrono::seconds(10));  // nothing runs, waits or holds a page

 private:
  std::shared_ptr<Script> script_ = std::make_shared<Script>();
  std::unique_ptr<App> app_;
};

}  // namespace hysparse
