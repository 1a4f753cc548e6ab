// What is not HTTP/1.1 as it must be is refused: hand-written, systematic and random damage over raw sockets.
#include <gtest/gtest.h>

#include <random>

#include "tests/unit/server/test_server.h"

namespace hysparse {
namespace {

using std::chrono::milliseconds;

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
  for (int round = 0; round < 10000; ++round) {
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
  EXPECT_GT(refused, 3000);
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

}  // namespace
}  // namespace hysparse
