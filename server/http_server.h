// HttpServer: listens, accepts and owns the connections and the I/O threads. Made and stopped by App.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_set>
#include <vector>

#include "absl/status/status.h"
#include "server/http_routes.h"
#include "server/http_session.h"
#include "server/server_options.h"

namespace hysparse {

class HttpServer {
 public:
  HttpServer(const ServerOptions& options, HttpRouter& router);
  ~HttpServer();  // Stop()

  // Binds and starts the I/O threads. InvalidArgument: a bad address, certificate or key; Unavailable: the port is
  // taken.
  absl::Status Listen();
  uint16_t port() const { return port_; }
  size_t connections() const;
  void Stop();  // closes every connection, joins. Idempotent.

 private:
  absl::Status LoadCertificate();
  absl::Status Bind();
  void Accept();
  void OnAccept(boost::asio::ip::tcp::socket socket);

  const ServerOptions& options_;
  HttpRouter& router_;
  boost::asio::io_context io_;
  boost::asio::ip::tcp::acceptor acceptor_;
  boost::asio::steady_timer retry_;
  std::optional<boost::asio::ssl::context> tls_;
  uint16_t port_ = 0;
  std::vector<std::thread> threads_;
  mutable std::mutex mutex_;                   // guards sessions_ and stopped_
  std::unordered_set<HttpSession*> sessions_;  // each removes itself before it dies
  bool stopped_ = false;
};

}  // namespace hysparse
