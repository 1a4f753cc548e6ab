#include "server/transport.h"

#include <netinet/tcp.h>

#include <boost/asio/post.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <utility>

namespace hysparse {
namespace {

using boost::asio::ip::tcp;
using boost::system::error_code;

class PlainTransport : public Transport {
 public:
  explicit PlainTransport(tcp::socket socket) : socket_(std::move(socket)) {}
  void Handshake(Handler handler) override {
    boost::asio::post(socket_.get_executor(), [handler = std::move(handler)] { handler({}, 0); });
  }
  void ReadSome(boost::asio::mutable_buffer buffer, Handler handler) override {
    socket_.async_read_some(buffer, std::move(handler));
  }
  void WriteSome(boost::asio::const_buffer buffer, Handler handler) override {
    socket_.async_write_some(buffer, std::move(handler));
  }
  void ShutdownSend(Handler handler) override {
    error_code ec;
    socket_.shutdown(tcp::socket::shutdown_send, ec);
    boost::asio::post(socket_.get_executor(), [handler = std::move(handler), ec] { handler(ec, 0); });
  }
  tcp::socket& socket() override { return socket_; }

 private:
  tcp::socket socket_;
};

class TlsTransport : public Transport {
 public:
  TlsTransport(tcp::socket socket, boost::asio::ssl::context& context) : stream_(std::move(socket), context) {}
  void Handshake(Handler handler) override {
    stream_.async_handshake(boost::asio::ssl::stream_base::server,
                            [handler = std::move(handler)](const error_code& ec) { handler(ec, 0); });
  }
  void ReadSome(boost::asio::mutable_buffer buffer, Handler handler) override {
    stream_.async_read_some(buffer, std::move(handler));
  }
  void WriteSome(boost::asio::const_buffer buffer, Handler handler) override {
    stream_.async_write_some(buffer, std::move(handler));
  }
  void ShutdownSend(Handler handler) override {
    stream_.async_shutdown([handler = std::move(handler)](const error_code& ec) { handler(ec, 0); });
  }
  tcp::socket& socket() override { return stream_.next_layer(); }

 private:
  boost::asio::ssl::stream<tcp::socket> stream_;
};

}  // namespace

std::string Transport::RemoteName() {
  error_code ec;
  const auto endpoint = socket().remote_endpoint(ec);
  return ec ? std::string("?") : endpoint.address().to_string() + ":" + std::to_string(endpoint.port());
}

bool Transport::PeerHasClosed() {
  tcp_info info{};
  socklen_t size = sizeof(info);
  return getsockopt(socket().native_handle(), IPPROTO_TCP, TCP_INFO, &info, &size) != 0 ||
         info.tcpi_state != TCP_ESTABLISHED;
}

std::unique_ptr<Transport> MakeTransport(tcp::socket socket, boost::asio::ssl::context* tls) {
  if (tls == nullptr) return std::make_unique<PlainTransport>(std::move(socket));
  return std::make_unique<TlsTransport>(std::move(socket), *tls);
}

}  // namespace hysparse
