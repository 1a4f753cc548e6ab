// Transport: the bytes of one accepted connection, plain or TLS. Every call and every handler runs on the socket's
// executor (a strand of the I/O threads); at most one read and one write at a time.
#pragma once

#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <functional>
#include <memory>
#include <string>

namespace hysparse {

class Transport {
 public:
  using Handler = std::function<void(const boost::system::error_code&, size_t)>;
  virtual ~Transport() = default;
  virtual void Handshake(Handler handler) = 0;
  virtual void ReadSome(boost::asio::mutable_buffer buffer, Handler handler) = 0;
  virtual void WriteSome(boost::asio::const_buffer buffer, Handler handler) = 0;
  virtual void ShutdownSend(Handler handler) = 0;  // tells the peer that nothing follows
  virtual boost::asio::ip::tcp::socket& socket() = 0;

  std::string RemoteName();  // ADDRESS:PORT
  // What the kernel knows without reading: a read that is paused cannot see the stream's end.
  bool PeerHasClosed();
};

// `tls` null: plain. The context must outlive the transport.
std::unique_ptr<Transport> MakeTransport(boost::asio::ip::tcp::socket socket, boost::asio::ssl::context* tls);

}  // namespace hysparse
