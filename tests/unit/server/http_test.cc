// The HTTP/1.1 connection over raw sockets: framing, limits, timeouts, keys, CORS, TLS.
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
#include <random>
#include <thread>

#include "tests/unit/server/test_server.h"

namespace hysparse {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using ::testing::HasSubstr;
using ::testing::Not;

// An error of the HTTP layer: a 4xx with the API's error object, and the connection closed.
void ExpectRefused(uint16_t port, const std::string& request, int status) {
  Client client(port);
  client.Send(request);
  const ClientResponse r = client.Read();
  EXPECT_EQ(r.status, status) << request.substr(0, 200);
  EXPECT_TRUE(r.Json().contains("error")) << request.substr(0, 200);
  EXPECT_EQ(r.Header("connection"), "close") << request.substr(0, 200);
  EXPECT_TRUE(client.AtEnd()) << request.substr(0, 200);
}

struct Malformed {
  const char* what;
  std::string request;
  int status = 400;
};

std::vector<Malformed> HandWritten() {
  const std::string host = "Host: x\r\n", post = "POST /tokenize HTTP/1.1\r\nHost: x\r\n";
  std::vector<Malformed> cases = {
      {"both lengths", post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
      {"both lengths, other order", post + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"},
      {"both, lower case", post + "transfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n0\r\n\r\n"},
      {"two lengths", post + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"},
      {"two equal lengths", post + "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}"},
      {"length list", post + "Content-Length: 2, 2\r\n\r\n{}"},
      {"two codings", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
      {"coding list", post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
      {"not ending in chunked", post + "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"},
      {"twice chunked", post + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"},
      {"identity", post + "Transfer-Encoding: identity\r\n\r\n"},
      {"xchunked", post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"},
      {"quoted chunked", post + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"},
      {"chunked with parameter", post + "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"},
      {"empty coding", post + "Transfer-Encoding:\r\n\r\n"},
      {"chunked on 1.0", "POST /tokenize HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
      {"vertical tab", post + "Transfer-Encoding:\x0b"
                              "chunked\r\n\r\n0\r\n\r\n"},
      {"space before colon", post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"},
      {"tab before colon", post + "Content-Length\t: 2\r\n\r\n{}"},
      {"negative length", post + "Content-Length: -1\r\n\r\n"},
      {"plus length", post + "Content-Length: +2\r\n\r\n{}"},
      {"hex length", post + "Content-Length: 0x2\r\n\r\n{}"},
      {"length with unit", post + "Content-Length: 2b\r\n\r\n{}"},
      {"inner space length", post + "Content-Length: 1 2\r\n\r\n{}"},
      {"empty length", post + "Content-Length:\r\n\r\n"},
      {"overflowing length", post + "Content-Length: 18446744073709551618\r\n\r\n", 413},
      {"huge length", post + "Content-Length: 99999999999999999999999999\r\n\r\n", 413},
      {"length beyond the cap", post + "Content-Length: 1000000000\r\n\r\n", 413},
      {"folded line", post + "X-A: 1\r\n  2\r\n\r\n"},
      {"folded with tab", post + "X-A: 1\r\n\t2\r\n\r\n"},
      {"folded first line", "GET /livez HTTP/1.1\r\n Host: x\r\n\r\n"},
      {"folded length", post + "Content-Length:\r\n 2\r\n\r\n{}"},
      {"bare LF lines", "GET /livez HTTP/1.1\nHost: x\n\r\n\r\n"},
      {"bare LF in value", post + "X-A: 1\nContent-Length: 2\r\n\r\n{}"},
      {"bare CR in value", post + "X-A: 1\rContent-Length: 2\r\n\r\n{}"},
      {"NUL in value", post + std::string("X-A: a\0b\r\n\r\n", 13)},
      {"NUL in name", post + std::string("X\0A: b\r\n\r\n", 11)},
      {"NUL in target", std::string("GET /li\0vez HTTP/1.1\r\nHost: x\r\n\r\n", 34)},
      {"control in value", post + "X-A: a\x01"
                                  "b\r\n\r\n"},
      {"DEL in value", post + "X-A: a\x7f\r\n\r\n"},
      {"no colon", post + "X-A\r\n\r\n"},
      {"empty name", post + ": value\r\n\r\n"},
      {"space in name", post + "X A: value\r\n\r\n"},
      {"non-ASCII name", post + "X-\xc3\xa9: value\r\n\r\n"},
      {"brackets in name", post + "X[A]: value\r\n\r\n"},
      {"no host", "GET /livez HTTP/1.1\r\n\r\n"},
      {"two hosts", "GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"},
      {"two equal hosts", "GET /livez HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"},
      {"host with path", "GET /livez HTTP/1.1\r\nHost: a/b\r\n\r\n"},
      {"host with space", "GET /livez HTTP/1.1\r\nHost: a b\r\n\r\n"},
      {"host with user", "GET /livez HTTP/1.1\r\nHost: u@a\r\n\r\n"},
      {"no version", "GET /livez\r\n" + host + "\r\n"},
      {"version 0.9", "GET /livez HTTP/0.9\r\n" + host + "\r\n"},
      {"version 1.2", "GET /livez HTTP/1.2\r\n" + host + "\r\n"},
      {"version 2.0", "GET /livez HTTP/2.0\r\n" + host + "\r\n"},
      {"version 1", "GET /livez HTTP/1\r\n" + host + "\r\n"},
      {"version 1.10", "GET /livez HTTP/1.10\r\n" + host + "\r\n"},
      {"lower-case version", "GET /livez http/1.1\r\n" + host + "\r\n"},
      {"version with space", "GET /livez HTTP/ 1.1\r\n" + host + "\r\n"},
      {"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
      {"RTSP", "DESCRIBE rtsp://x/y RTSP/1.0\r\n\r\n"},
      {"TLS hello", std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11) + "\r\n\r\n"},
      {"two spaces after method", "GET  /livez HTTP/1.1\r\n" + host + "\r\n"},
      {"two spaces before version", "GET /livez  HTTP/1.1\r\n" + host + "\r\n"},
      {"leading space", " GET /livez HTTP/1.1\r\n" + host + "\r\n"},
      {"trailing space", "GET /livez HTTP/1.1 \r\n" + host + "\r\n"},
      {"tab separators", "GET\t/livez\tHTTP/1.1\r\n" + host + "\r\n"},
      {"space in target", "GET /li vez HTTP/1.1\r\n" + host + "\r\n"},
      {"no method", "/livez HTTP/1.1\r\n" + host + "\r\n"},
      {"empty line only words", "hello\r\n\r\n"},
      {"colon in method", "GE:T /livez HTTP/1.1\r\n" + host + "\r\n"},
      {"non-ASCII method", "G\xc3\x89T /livez HTTP/1.1\r\n" + host + "\r\n"},
      {"long method", std::string(33, 'G') + " /livez HTTP/1.1\r\n" + host + "\r\n"},
      {"relative target", "GET livez HTTP/1.1\r\n" + host + "\r\n"},
      {"empty target", "GET  HTTP/1.1\r\n" + host + "\r\n"},
      {"ftp target", "GET ftp://x/livez HTTP/1.1\r\n" + host + "\r\n"},
      {"authority target", "CONNECT x:443 HTTP/1.1\r\n" + host + "\r\n"},
      {"non-ASCII target", "GET /\xc3\xa9 HTTP/1.1\r\n" + host + "\r\n"},
      {"broken percent", "GET /%zz HTTP/1.1\r\n" + host + "\r\n"},
      {"cut percent", "GET /%4 HTTP/1.1\r\n" + host + "\r\n"},
      {"percent NUL", "GET /livez%00 HTTP/1.1\r\n" + host + "\r\n"},
      {"DEL in target", "GET /livez\x7f HTTP/1.1\r\n" + host + "\r\n"},
      {"unknown expectation", post + "Expect: the-unexpected\r\nContent-Length: 2\r\n\r\n{}", 417},
      {"long line", "GET /" + std::string(9000, 'a') + " HTTP/1.1\r\n" + host + "\r\n", 431},
      {"long header", post + "X-A: " + std::string(9000, 'a') + "\r\n\r\n", 431},
      {"garbage", std::string(9000, '\xff'), 431},
      // Bodies.
      {"bad chunk size", post + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"},
      {"negative chunk size", post + "Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n"},
      {"overflowing chunk size", post + "Transfer-Encoding: chunked\r\n\r\n1ffffffffffffffff\r\n{}\r\n0\r\n\r\n"},
      {"chunk beyond the cap", post + "Transfer-Encoding: chunked\r\n\r\n7fffffff\r\n{}\r\n", 413},
      {"chunk without CRLF", post + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}xx0\r\n\r\n"},
      {"endless chunk extension", post + "Transfer-Encoding: chunked\r\n\r\n2;" + std::string(20000, 'a')},
      {"bad trailer", post + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nno colon\r\n\r\n"},
  };
  std::string many;
  for (int i = 0; i < 101; ++i) many += "X-" + std::to_string(i) + ": 1\r\n";
  cases.push_back({"too many headers", post + many + "\r\n", 431});
  return cases;
}

TEST(Framing, RefusesMalformedRequests) {
  TestServer server;
  for (const Malformed& c : HandWritten()) {
    SCOPED_TRACE(c.what);
    ExpectRefused(server.port(), c.request, c.status);
  }
  EXPECT_EQ(server.Exchange(Get("/livez")).status, 200);
}

// Control characters at each place of a head that is otherwise right.
TEST(Framing, RefusesControlCharactersAnywhere) {
  TestServer server;
  const std::string request = "GET /livez HTTP/1.1\r\nHost: localhost\r\nAccept: a\r\n\r\n";
  for (size_t at = 0; at + 4 < request.size(); ++at) {
    std::string broken = request;
    broken[at] = at % 2 == 0 ? '\x00' : '\x02';
    SCOPED_TRACE(at);
    ExpectRefused(server.port(), broken, 400);
  }
}

// Random damage: every answer is a response of ours or a closed connection, and the server lives.
TEST(Framing, SurvivesMutatedRequests) {
  ServerOptions options = QuickOptions();
  options.header_timeout = options.body_timeout = milliseconds(30);
  TestServer server(options);
  std::vector<std::string> seeds = {
      Get("/livez"), Get("/v1/models/org/tiny"), Post("/tokenize", R"({"prompt":"Hi"})"),
      Post("/v1/completions", R"({"prompt":[1,2,3],"max_tokens":2})"),
      "POST /detokenize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n{\"tokens\":[72]}\r\n0\r\n\r\n"};
  for (const Malformed& c : HandWritten()) {
    if (c.request.size() < 500) seeds.push_back(c.request);
  }
  std::mt19937 random(11);
  int refused = 0;
  for (int round = 0; round < 1500; ++round) {
    std::string request = seeds[random() % seeds.size()];
    for (int edits = 1 + static_cast<int>(random() % 3); edits > 0 && !request.empty(); --edits) {
      const size_t at = random() % request.size();
      switch (random() % 4) {
        case 0:
          request[at] = static_cast<char>(random() % 256);
          break;
        case 1:
          request.erase(at, 1 + random() % 4);
          break;
        case 2:
          request.insert(at, request, random() % request.size(), random() % 16);
          break;
        default:
          request.insert(at, 1, static_cast<char>(random() % 256));
          break;
      }
    }
    Client client(server.port());
    client.Send(request);
    client.FinishSending();
    const ClientResponse r = client.Read();
    if (r.status == 0) continue;  // closed: the request was not complete
    ASSERT_TRUE(r.status == 200 || (r.status >= 400 && r.status < 500) || r.status == 204 || r.status == 503)
        << r.status << request;
    if (r.status >= 400 && r.head.find("content-length: 0") == std::string::npos &&
        request.compare(0, 4, "HEAD") != 0) {
      ASSERT_TRUE(r.Json().contains("error")) << r.body << request;
      ++refused;
    }
  }
  EXPECT_GT(refused, 300);
  EXPECT_EQ(server.Exchange(Get("/livez")).status, 200);
  EXPECT_TRUE(server.AwaitIdle());
}

TEST(Framing, AcceptsWhatIsLegal) {
  TestServer server;
  const std::string body = R"({"prompt":"Hi"})";
  const std::string requests[] = {
      "\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
      "GET http://example.com/livez?x=1 HTTP/1.1\r\nHost: example.com\r\n\r\n",
      "GET /%6civez HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n",
      "GET /livez#x HTTP/1.1\r\nHost:x\r\nX-Empty:\r\nX-Latin: caf\xe9\r\n\r\n",
      "GET /livez HTTP/1.0\r\n\r\n",
      "POST /tokenize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
      "Chunked\r\n\r\n5;a=b\r\n{\"pro\r\na\r\nmpt\":\"Hi\"}\r\n0\r\nTrailer: x\r\n\r\n",
      "POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: "
      "015\r\n\r\n" +
          body,
  };
  for (const std::string& request : requests) {
    Client client(server.port());
    client.Send(request);
    EXPECT_EQ(client.Read().status, 200) << request;
  }
}

TEST(Connection, KeepsAliveAndAnswersPipelinedRequestsInOrder) {
  TestServer server;
  Client client(server.port());
  client.Send(Get("/livez") + Post("/tokenize", R"({"prompt":"a"})") + Get("/version") +
              Post("/v1/completions", R"({"prompt":"x"})") + Get("/nowhere") + Get("/livez", "Connection: close\r\n") +
              Get("/version"));
  EXPECT_THAT(client.Read().body, HasSubstr("live"));
  EXPECT_THAT(client.Read().body, HasSubstr("\"count\":1"));
  EXPECT_THAT(client.Read().body, HasSubstr("version"));
  EXPECT_THAT(client.Read().body, HasSubstr("Hello world"));
  EXPECT_EQ(client.Read().status, 404);
  const ClientResponse last = client.Read();
  EXPECT_EQ(last.Header("connection"), "close");
  EXPECT_TRUE(client.AtEnd());
}

TEST(Connection, ManyPipelinedRequestsDoNotGrowTheStack) {
  TestServer server;
  Client client(server.port());
  std::string all;
  for (int i = 0; i < 3000; ++i) all += Get("/livez");
  std::thread sender([&] { client.Send(all); });
  for (int i = 0; i < 3000; ++i) ASSERT_EQ(client.Read().status, 200) << i;
  sender.join();
}

TEST(Connection, BytesMayComeOneByOne) {
  ServerOptions options = QuickOptions();
  options.header_timeout = options.body_timeout = milliseconds(10000);
  TestServer server(options);
  Client client(server.port());
  for (char c : Post("/tokenize", R"({"prompt":"Hi"})")) client.Send(std::string(1, c));
  EXPECT_THAT(client.Read().body, HasSubstr("\"count\":2"));
}

TEST(Connection, MethodsAndPaths) {
  TestServer server;
  const ClientResponse wrong = server.Exchange("DELETE /v1/models HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.Header("allow"), "GET, HEAD");
  EXPECT_EQ(server.Exchange(Get("/v1/chat/completions")).Header("allow"), "POST");
  EXPECT_EQ(server.Exchange(Get("/nowhere")).status, 404);
  EXPECT_EQ(server.Exchange(Get("/v1/models/")).status, 404);
  EXPECT_EQ(server.Exchange("OPTIONS /v1/models HTTP/1.1\r\nHost: x\r\n\r\n").Header("allow"), "GET, HEAD");
  Client client(server.port());
  client.Send("HEAD /v1/models HTTP/1.1\r\nHost: x\r\n\r\n" + Get("/version"));
  const std::string both = client.ReadUntil("{\"version\"");
  EXPECT_THAT(both, Not(HasSubstr("\"object\"")));  // HEAD: no body, and the length that GET would have
  EXPECT_THAT(both, Not(HasSubstr("content-length: 0")));
  EXPECT_EQ(both.find("HTTP/1.1 200"), 0u);
}

TEST(Connection, RequestIdsAreEchoedAndMade) {
  TestServer server;
  EXPECT_EQ(server.Exchange(Get("/livez", "X-Request-Id: mine-1\r\n")).Header("x-request-id"), "mine-1");
  EXPECT_THAT(server.Exchange(Get("/livez", "X-Request-Id: <script>\r\n")).Header("x-request-id"),
              ::testing::StartsWith("req-"));
  EXPECT_EQ(server.Exchange(Get("/nowhere", "X-Request-Id: mine-2\r\n")).Header("x-request-id"), "mine-2");
  EXPECT_FALSE(server.Exchange("BROKEN\r\n\r\n").Header("x-request-id").empty());
  EXPECT_FALSE(server.Exchange(Get("/livez")).Header("date").empty());
}

TEST(Connection, ContinuesWhenAsked) {
  ServerOptions options = QuickOptions();
  options.body_timeout = milliseconds(10000);
  TestServer server(options);
  Client client(server.port());
  client.Send("POST /tokenize HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 15\r\n\r\n");
  EXPECT_THAT(client.ReadUntil("\r\n\r\n"), HasSubstr("100 Continue"));
  client.Send(R"({"prompt":"Hi"})");
  EXPECT_EQ(client.Read().status, 200);
}

TEST(Connection, OnlyJsonBodies) {
  TestServer server;
  const std::string body = R"({"prompt":"Hi"})";
  const auto post = [&](const std::string& headers) {
    return server.Exchange("POST /tokenize HTTP/1.1\r\nHost: x\r\n" + headers + "Content-Length: 15\r\n\r\n" + body)
        .status;
  };
  EXPECT_EQ(post("Content-Type: text/plain\r\n"), 415);
  EXPECT_EQ(post("Content-Type: application/x-www-form-urlencoded\r\n"), 415);
  EXPECT_EQ(post("Content-Type: Application/JSON;charset=utf-8\r\n"), 200);
  EXPECT_EQ(post(""), 200);
  EXPECT_EQ(post("Content-Encoding: gzip\r\n"), 415);
}

TEST(Connection, BodiesBeyondTheCapAreRefused) {
  ServerOptions options = QuickOptions();
  options.max_body_bytes = 1000;
  TestServer server(options);
  EXPECT_EQ(server.Exchange(Post("/tokenize", R"({"prompt":")" + std::string(980, 'x') + "\"}")).status, 200);
  ExpectRefused(server.port(), Post("/tokenize", R"({"prompt":")" + std::string(990, 'x') + "\"}"), 413);
  std::string chunked = "POST /tokenize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 100; ++i) chunked += "10\r\n0123456789abcdef\r\n";
  ExpectRefused(server.port(), chunked, 413);
}

TEST(Connection, InvalidUtf8IsA400) {
  TestServer server;
  const ClientResponse r = server.Exchange(Post("/v1/completions", "{\"prompt\":\"\xff\"}"));
  EXPECT_EQ(r.status, 400);
  EXPECT_EQ(r.Json()["error"]["type"], "invalid_request_error");
}

TEST(Timeouts, EndlessHeaders) {
  TestServer server;
  Client client(server.port());
  client.Send("GET /livez HTTP/1.1\r\nHost: x\r\n");
  const auto start = Clock::now();
  bool open = true;
  for (int i = 0; i < 100 && open; ++i) {
    open = client.Send("X-" + std::to_string(i) + ": 1\r\n");
    std::this_thread::sleep_for(milliseconds(20));
    if (SecondsSince(start) > 1.0) break;
  }
  EXPECT_EQ(client.Read().status, 408);
  ExpectRefused(server.port(), "GET /livez HTTP/1.1\r\n" + std::string(100000, 'X'), 431);
}

TEST(Timeouts, SlowBody) {
  TestServer server;
  Client client(server.port());
  client.Send("POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n{\"pro");
  EXPECT_EQ(client.Read().status, 408);
  EXPECT_TRUE(client.AtEnd());
}

TEST(Timeouts, IdleConnectionsAreClosedWithoutAWord) {
  ServerOptions options = QuickOptions();
  options.idle_timeout = milliseconds(100);
  TestServer server(options);
  Client fresh(server.port()), used(server.port());
  used.Send(Get("/livez"));
  EXPECT_EQ(used.Read().status, 200);
  EXPECT_TRUE(fresh.AtEnd());
  EXPECT_TRUE(used.AtEnd());
}

TEST(Limits, TooManyConnections) {
  ServerOptions options = QuickOptions();
  options.max_connections = 3;
  TestServer server(options);
  std::vector<std::unique_ptr<Client>> held;
  for (int i = 0; i < 3; ++i) {
    held.push_back(std::make_unique<Client>(server.port()));
    held.back()->Send(Get("/livez"));
    EXPECT_EQ(held.back()->Read().status, 200);
  }
  const ClientResponse refused = server.Exchange("");
  EXPECT_EQ(refused.status, 503);
  EXPECT_TRUE(refused.Json().contains("error"));
  held.clear();
  int status = 0;
  for (int i = 0; i < 200 && status != 200; ++i) {
    std::this_thread::sleep_for(milliseconds(5));
    status = server.Exchange(Get("/livez")).status;
  }
  EXPECT_EQ(status, 200);
}

TEST(Keys, EveryRouteButTheProbesNeedsOne) {
  ServerOptions options = QuickOptions();
  options.api_keys = {"sk-1", "sk-2"};
  TestServer server(options);
  for (const char* path : {"/livez", "/readyz", "/startupz", "/health"})
    EXPECT_EQ(server.Exchange(Get(path)).status, 200) << path;
  for (const std::string& request :
       {Get("/v1/models"), Get("/v1/models/org/tiny"), Get("/metrics"), Get("/version"), Get("/nowhere"),
        Post("/tokenize", "{}"), Post("/detokenize", "{}"), Post("/v1/chat/completions", "{}"),
        Post("/v1/completions", "{}"), Post("/v1/responses", "{}"),
        std::string("OPTIONS /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"), Get("//v1/models"), Get("/v1/../v1/models")}) {
    const ClientResponse r = server.Exchange(request);
    EXPECT_EQ(r.status, 401) << request;
    EXPECT_EQ(r.Json()["error"]["code"], "invalid_api_key");
    EXPECT_EQ(r.Header("www-authenticate"), "Bearer");
  }
  EXPECT_EQ(server.Exchange(Get("/v1/models", "Authorization: Bearer sk-3\r\n")).status, 401);
  EXPECT_EQ(server.Exchange(Get("/v1/models", "Authorization: Bearer sk-1\r\n")).status, 200);
  EXPECT_EQ(server.Exchange(Get("/v1/models", "authorization: bearer sk-2\r\n")).status, 200);
  EXPECT_EQ(server.Exchange(Get("/nowhere", "Authorization: Bearer sk-1\r\n")).status, 404);
  // A key in a trailer comes too late.
  EXPECT_EQ(server
                .Exchange("POST /tokenize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nAuthorization: "
                          "Bearer sk-1\r\n\r\n")
                .status,
            401);
}

TEST(Cors, OffUnlessAllowed) {
  TestServer server;
  EXPECT_EQ(server.Exchange(Get("/v1/models", "Origin: http://a\r\n")).Header("access-control-allow-origin"), "");
  const std::string preflight =
      "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: x\r\nOrigin: http://a\r\nAccess-Control-Request-Method: "
      "POST\r\n\r\n";
  EXPECT_EQ(server.Exchange(preflight).Header("access-control-allow-origin"), "");

  ServerOptions options = QuickOptions();
  options.cors_origins = {"http://a"};
  options.api_keys = {"sk-1"};
  TestServer allowing(options);
  const ClientResponse answer = allowing.Exchange(preflight);
  EXPECT_EQ(answer.status, 204);
  EXPECT_EQ(answer.Header("access-control-allow-origin"), "http://a");
  EXPECT_EQ(answer.Header("access-control-allow-methods"), "POST");
  EXPECT_THAT(answer.Header("access-control-allow-headers"), HasSubstr("authorization"));
  EXPECT_EQ(allowing.Exchange(Get("/v1/models", "Origin: http://a\r\n")).Header("access-control-allow-origin"),
            "http://a");  // errors too
  EXPECT_EQ(allowing.Exchange(Get("/v1/models", "Origin: http://b\r\n")).Header("access-control-allow-origin"), "");
  EXPECT_EQ(allowing
                .Exchange("OPTIONS /v1/models HTTP/1.1\r\nHost: x\r\nOrigin: "
                          "http://b\r\nAccess-Control-Request-Method: GET\r\n\r\n")
                .status,
            401);
}

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

TEST(Listening, ErrorsSayWhy) {
  TestServer server;
  ServerOptions options = QuickOptions();
  options.port = server.port();
  App taken(options);
  EXPECT_EQ(taken.Listen().code(), absl::StatusCode::kUnavailable);
  options.host = "not-an-address";
  App wrong(options);
  EXPECT_EQ(wrong.Listen().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace hysparse
