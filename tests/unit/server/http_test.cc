// The HTTP/1.1 connection over raw sockets: order, limits, timeouts, keys, CORS.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/unit/server/test_server.h"

namespace hysparse {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using ::testing::HasSubstr;
using ::testing::Not;

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
