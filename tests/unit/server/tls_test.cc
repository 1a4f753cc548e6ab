// TLS by certificate files, with OpenSSL's own client.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/write.hpp>
#include <cstdio>

#include "tests/unit/server/test_server.h"

namespace hysparse {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

// A self-signed certificate and its key, as PEM files under the test's folder.
struct Certificate {
  std::string certificate = ::testing::TempDir() + "server_test_cert.pem",
              key = ::testing::TempDir() + "server_test_key.pem";
  Certificate() {
    EVP_PKEY* pair = EVP_EC_gen("P-256");
    X509* x509 = X509_new();
    ASN1_INTEGER_set(X509_get_serialNumber(x509), 1);
    X509_gmtime_adj(X509_getm_notBefore(x509), 0);
    X509_gmtime_adj(X509_getm_notAfter(x509), 3600);
    X509_set_pubkey(x509, pair);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x509), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>("localhost"), -1, -1, 0);
    X509_set_issuer_name(x509, X509_get_subject_name(x509));
    X509_sign(x509, pair, EVP_sha256());
    FILE* file = std::fopen(certificate.c_str(), "w");
    PEM_write_X509(file, x509);
    std::fclose(file);
    file = std::fopen(key.c_str(), "w");
    PEM_write_PrivateKey(file, pair, nullptr, nullptr, 0, nullptr, nullptr);
    std::fclose(file);
    X509_free(x509);
    EVP_PKEY_free(pair);
  }
};

std::string TlsExchange(uint16_t port, const std::string& request, int max_version, std::string* error) {
  namespace asio = boost::asio;
  asio::io_context io;
  asio::ssl::context context(asio::ssl::context::tls_client);
  SSL_CTX_set_security_level(context.native_handle(), 0);
  SSL_CTX_set_min_proto_version(context.native_handle(), TLS1_VERSION);
  SSL_CTX_set_max_proto_version(context.native_handle(), max_version);
  asio::ssl::stream<asio::ip::tcp::socket> stream(io, context);
  boost::system::error_code ec;
  stream.next_layer().connect({asio::ip::address_v4::loopback(), port});
  stream.handshake(asio::ssl::stream_base::client, ec);
  if (ec) {
    *error = ec.message();
    return "";
  }
  asio::write(stream, asio::buffer(request));
  std::string answer;
  asio::read(stream, asio::dynamic_buffer(answer), ec);
  return answer;
}

TEST(Tls, ServesTls12AndLaterOnly) {
  const Certificate files;
  ServerOptions options = QuickOptions();
  options.tls_certificate = files.certificate;
  options.tls_key = files.key;
  TestServer server(options);
  std::string error;
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    EXPECT_THAT(TlsExchange(server.port(), Get("/livez", "Connection: close\r\n"), version, &error),
                HasSubstr("\"live\""))
        << error;
  }
  const std::string body = R"({"messages":[{"role":"user","content":"hi"}],"stream":true})";
  EXPECT_THAT(
      TlsExchange(server.port(), Post("/v1/chat/completions", body, "Connection: close\r\n"), TLS1_3_VERSION, &error),
      HasSubstr("data: [DONE]"));
  EXPECT_EQ(TlsExchange(server.port(), Get("/livez", "Connection: close\r\n"), TLS1_1_VERSION, &error), "");
  EXPECT_NE(error, "");
  Client plain(server.port());
  plain.Send(Get("/livez"));
  EXPECT_EQ(plain.Read(milliseconds(2000)).status, 0);
  EXPECT_TRUE(server.AwaitIdle());
}

TEST(Tls, ErrorsNameTheFile) {
  const Certificate files;
  ServerOptions options = QuickOptions();
  options.tls_certificate = "/nowhere/cert.pem";
  options.tls_key = files.key;
  App missing(options);
  EXPECT_THAT(std::string(missing.Listen().message()), HasSubstr("/nowhere/cert.pem"));
  options.tls_certificate = "";
  App half(options);
  EXPECT_THAT(std::string(half.Listen().message()), HasSubstr("both"));
}

}  // namespace
}  // namespace hysparse
