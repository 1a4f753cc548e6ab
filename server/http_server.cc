#include "server/http_server.h"

#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/result.h"

namespace hysparse {
namespace {

using boost::asio::ip::tcp;
using boost::system::error_code;

constexpr int kSendBuffer =
    256 << 10;  // kernel bytes of a reader that stalls; the kernel's own tuning goes to megabytes
constexpr std::chrono::milliseconds kAcceptRetry{100};

}  // namespace

HttpServer::HttpServer(const ServerOptions& options, HttpRouter& router)
    : options_(options), router_(router), acceptor_(boost::asio::make_strand(io_)), retry_(acceptor_.get_executor()) {}

HttpServer::~HttpServer() { Stop(); }

absl::Status HttpServer::LoadCertificate() {
  namespace ssl = boost::asio::ssl;
  if (options_.tls_certificate.empty() && options_.tls_key.empty()) return absl::OkStatus();
  if (options_.tls_certificate.empty() || options_.tls_key.empty()) {
    return absl::InvalidArgumentError("TLS needs both a certificate and a key file");
  }
  tls_.emplace(ssl::context::tls_server);
  error_code ec;
  tls_->set_options(ssl::context::default_workarounds | ssl::context::no_sslv2 | ssl::context::no_sslv3 |
                        ssl::context::no_tlsv1 | ssl::context::no_tlsv1_1 | ssl::context::single_dh_use,
                    ec);
  if (!ec) tls_->use_certificate_chain_file(options_.tls_certificate, ec);
  if (ec)
    return absl::InvalidArgumentError(absl::StrCat("TLS certificate ", options_.tls_certificate, ": ", ec.message()));
  tls_->use_private_key_file(options_.tls_key, ssl::context::pem, ec);
  if (ec) return absl::InvalidArgumentError(absl::StrCat("TLS key ", options_.tls_key, ": ", ec.message()));
  if (SSL_CTX_check_private_key(tls_->native_handle()) != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("TLS key ", options_.tls_key, " does not belong to the certificate"));
  }
  return absl::OkStatus();
}

absl::Status HttpServer::Bind() {
  error_code ec;
  const auto address = boost::asio::ip::make_address(options_.host == "localhost" ? "127.0.0.1" : options_.host, ec);
  if (ec) return absl::InvalidArgumentError(absl::StrCat("host '", options_.host, "' is not an IP address"));
  const tcp::endpoint endpoint(address, options_.port);
  acceptor_.open(endpoint.protocol(), ec);
  if (!ec) acceptor_.set_option(tcp::acceptor::reuse_address(true), ec);
  if (!ec) acceptor_.bind(endpoint, ec);
  if (!ec) acceptor_.listen(boost::asio::socket_base::max_listen_connections, ec);
  if (ec) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", options_.host, ":", options_.port, ": ", ec.message()));
  }
  port_ = acceptor_.local_endpoint().port();
  return absl::OkStatus();
}

absl::Status HttpServer::Listen() {
  HYSPARSE_RETURN_IF_ERROR(LoadCertificate());
  HYSPARSE_RETURN_IF_ERROR(Bind());
  Accept();
  for (int i = 0; i < std::max(1, options_.io_threads); ++i) threads_.emplace_back([this] { io_.run(); });
  return absl::OkStatus();
}

void HttpServer::Accept() {
  acceptor_.async_accept(boost::asio::make_strand(io_), [this](const error_code& ec, tcp::socket socket) {
    if (ec == boost::asio::error::operation_aborted || !acceptor_.is_open()) return;
    if (!ec) {
      OnAccept(std::move(socket));
      return Accept();
    }
    // Out of file descriptors, most likely: trying again at once would only spin.
    retry_.expires_after(kAcceptRetry);
    retry_.async_wait([this](const error_code& timer) {
      if (!timer) Accept();
    });
  });
}

void HttpServer::OnAccept(tcp::socket socket) {
  error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  socket.set_option(boost::asio::socket_base::send_buffer_size(kSendBuffer), ignored);
  const auto session = std::make_shared<HttpSession>(MakeTransport(std::move(socket), tls_ ? &*tls_ : nullptr), router_,
                                                     options_, [this](HttpSession* closed) {
                                                       std::lock_guard lock(mutex_);
                                                       sessions_.erase(closed);
                                                     });
  bool full = false;
  {
    std::lock_guard lock(mutex_);
    if (stopped_) return;
    full = sessions_.size() >= static_cast<size_t>(options_.max_connections);
    sessions_.insert(session.get());
  }
  full ? session->Refuse() : session->Start();
}

size_t HttpServer::connections() const {
  std::lock_guard lock(mutex_);
  return sessions_.size();
}

void HttpServer::Stop() {
  {
    std::lock_guard lock(mutex_);
    if (std::exchange(stopped_, true)) return;
    // Under the lock none of them can be gone: a session leaves the set before it dies.
    for (HttpSession* session : sessions_) session->Stop();
  }
  boost::asio::post(acceptor_.get_executor(), [this] {
    error_code ignored;
    acceptor_.close(ignored);
    retry_.cancel();
  });
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

}  // namespace hysparse
