// Clients that leave or do not read, loading and draining: nothing is held, nothing is cut that need not be.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <random>
#include <thread>

#include "tests/unit/server/test_server.h"

namespace hysparse {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using ::testing::EndsWith;
using ::testing::HasSubstr;

enum class Leaving { kFin, kReset };

void LeaveWhileComputing(bool stream, Leaving how) {
  StepGate gate;
  TestServer server;
  server.script()->endless = true;
  server.script()->before_step = [&] { gate.Wait(); };
  auto client = std::make_unique<Client>(server.port());
  client->Send(Completion({{"prompt", std::string(300, 'x')}, {"max_tokens", 100}, {"stream", stream}}));
  gate.AwaitArrival(1);  // the first chunk of the prompt is being computed
  gate.Allow(1);
  gate.AwaitArrival(2);
  if (how == Leaving::kReset) client->Reset();
  client.reset();
  // The server sees it at once, while the step still runs.
  const auto deadline = Clock::now() + std::chrono::seconds(10);
  while (server.app().gate().inside() > 0 && Clock::now() < deadline) std::this_thread::sleep_for(milliseconds(1));
  gate.Allow(1);
  EXPECT_TRUE(server.AwaitIdle()) << "not freed within one step";
  gate.Open();
  EXPECT_LE(server.script()->steps, 3);
  EXPECT_EQ(server.Exchange(Get("/livez")).status, 200);
}

TEST(Disconnect, MidPrefillStreaming) { LeaveWhileComputing(true, Leaving::kFin); }
TEST(Disconnect, MidPrefillNotStreaming) { LeaveWhileComputing(false, Leaving::kFin); }
TEST(Disconnect, MidPrefillReset) { LeaveWhileComputing(false, Leaving::kReset); }

TEST(Disconnect, MidStream) {
  TestServer server;
  server.script()->endless = true;
  server.script()->before_step = [] { std::this_thread::sleep_for(milliseconds(2)); };
  {
    Client client(server.port());
    client.Send(Chat({{"stream", true}, {"max_tokens", 400}}));
    EXPECT_THAT(client.ReadUntil("\"content\":\"l\""), HasSubstr("\"content\":\"l\""));
  }
  EXPECT_TRUE(server.AwaitIdle());
  EXPECT_LT(server.script()->steps, 390);
  // The session hears of it a moment after the engine is done.
  const auto aborted = [&] {
    return server.app().metrics().Scrape().find("finished_reason=\"abort\"} 1\n") != std::string::npos;
  };
  const auto start = Clock::now();
  while (!aborted() && SecondsSince(start) < 10) std::this_thread::sleep_for(milliseconds(1));
  EXPECT_TRUE(aborted());
}

// A client that pipelines more than is buffered cannot be read from, and must still be noticed when it leaves.
TEST(Disconnect, BehindAFullPipeline) {
  StepGate gate;
  TestServer server;
  server.script()->before_step = [&] { gate.Wait(); };
  auto client = std::make_unique<Client>(server.port());
  client->Send(Completion({{"prompt", "x"}, {"max_tokens", 100}}));
  gate.AwaitArrival(1);
  std::string pipelined;
  while (pipelined.size() < (128 << 10)) pipelined += Get("/livez");
  client->Send(pipelined);
  client->FinishSending();
  client.reset();
  const auto deadline = Clock::now() + std::chrono::seconds(10);
  while (server.app().gate().inside() > 0 && Clock::now() < deadline) std::this_thread::sleep_for(milliseconds(5));
  EXPECT_EQ(server.app().gate().inside(), 0);
  gate.Open();
  EXPECT_TRUE(server.AwaitIdle());
}

// About 4 MB of events for a client that reads none of them: far more than the kernel keeps for it.
std::string UnreadStream() {
  return Chat({{"stream", true}, {"max_tokens", 3000}, {"logprobs", true}, {"top_logprobs", 20}});
}

void ExpectCutOff(const ServerOptions& options) {
  TestServer server(options, true, 4096);
  server.script()->answers = {std::string(100, 'x')};
  server.script()->endless = true;
  Client client(server.port(), 4096);
  client.Send(UnreadStream());
  EXPECT_THAT(client.ReadUntil("\r\n\r\n"), HasSubstr("200 OK"));
  const auto start = Clock::now();
  while (server.app().gate().inside() > 0 && SecondsSince(start) < 20) std::this_thread::sleep_for(milliseconds(5));
  EXPECT_EQ(server.app().gate().inside(), 0);
  EXPECT_TRUE(server.AwaitIdle());
  const ClientResponse r = client.Read();
  EXPECT_FALSE(r.complete);
  EXPECT_LT(r.body.size(), 3u << 20);
}

TEST(Disconnect, AStreamNobodyReadsIsBoundedInMemory) {
  ServerOptions options = QuickOptions();
  options.max_stream_backlog_bytes = 64 << 10;
  options.write_timeout = std::chrono::seconds(60);
  ExpectCutOff(options);
}

TEST(Disconnect, AStalledReaderIsCutOffAfterTheWriteTimeout) {
  ServerOptions options = QuickOptions();
  options.write_timeout = milliseconds(200);
  options.max_stream_backlog_bytes = 64 << 20;
  ExpectCutOff(options);
}

TEST(Disconnect, ThousandRandomCancelsHoldNoPage) {
  TestServer server;
  server.script()->endless = true;
  std::mt19937 random(3);
  for (int batch = 0; batch < 50; ++batch) {
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 20; ++i) {
      clients.push_back(std::make_unique<Client>(server.port()));
      clients.back()->Send(Completion({{"prompt", std::string(1 + random() % 200, 'p')},
                                       {"max_tokens", 200},
                                       {"n", 1 + random() % 2},
                                       {"stream", random() % 2 == 0}}));
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 4000));
    for (auto& client : clients) {
      if (random() % 2 == 0) client->Reset();
      client.reset();
    }
  }
  const auto deadline = Clock::now() + std::chrono::seconds(20);
  while (server.app().gate().inside() > 0 && Clock::now() < deadline) std::this_thread::sleep_for(milliseconds(5));
  EXPECT_EQ(server.app().gate().inside(), 0);
  EXPECT_EQ(server.Exchange(Chat({{"max_tokens", 3}})).status, 200);  // behind the last of them
  EXPECT_TRUE(server.AwaitIdle(std::chrono::seconds(20)));
}

// ---- Loading and draining

TEST(Lifecycle, ProbesAnswerBeforeTheModelIsThere) {
  TestServer server(QuickOptions(), /*with_model=*/false);
  server.app().SetLoadProgress(0.25);
  EXPECT_EQ(server.Exchange(Get("/livez")).status, 200);
  EXPECT_EQ(server.Exchange(Get("/readyz")).status, 503);
  EXPECT_EQ(server.Exchange(Get("/health")).status, 503);
  const ClientResponse started = server.Exchange(Get("/startupz"));
  EXPECT_EQ(started.status, 503);
  EXPECT_EQ(started.Json(), (json{{"status", "loading"}, {"load_percent", 25}}));
  const ClientResponse early = server.Exchange(Chat());
  EXPECT_EQ(early.status, 503);
  EXPECT_FALSE(early.Header("retry-after").empty());
  EXPECT_EQ(server.Exchange(Get("/v1/models")).status, 503);
  EXPECT_EQ(server.Exchange(Get("/metrics")).status, 200);
  server.AttachModel();
  EXPECT_EQ(server.Exchange(Get("/readyz")).status, 200);
  EXPECT_EQ(server.Exchange(Get("/startupz")).status, 200);
  EXPECT_EQ(server.Exchange(Chat()).status, 200);
}

TEST(Lifecycle, DrainFinishesWhatRunsAndRefusesWhatComes) {
  StepGate gate;
  TestServer server;
  server.script()->before_step = [&] { gate.Wait(); };
  Client running(server.port()), idle(server.port());
  running.Send(Chat({{"stream", true}}));
  gate.AwaitArrival(1);
  std::future<bool> drained = std::async(std::launch::async, [&] { return server.app().Drain(); });
  while (!server.app().gate().closed()) std::this_thread::sleep_for(milliseconds(1));
  EXPECT_EQ(server.Exchange(Get("/readyz")).status, 503);
  EXPECT_EQ(server.Exchange(Get("/livez")).status, 200);
  const ClientResponse refused = server.Exchange(Chat());
  EXPECT_EQ(refused.status, 503);
  EXPECT_FALSE(refused.Header("retry-after").empty());
  EXPECT_EQ(refused.Header("connection"), "close");
  EXPECT_EQ(drained.wait_for(milliseconds(50)), std::future_status::timeout);
  gate.Open();
  const ClientResponse r = running.Read();
  EXPECT_TRUE(r.complete);
  EXPECT_THAT(r.body, EndsWith("data: [DONE]\n\n"));
  EXPECT_TRUE(drained.get());
}

TEST(Lifecycle, StopCutsOffWhatOutlivesTheDrain) {
  ServerOptions options = QuickOptions();
  options.drain_timeout = milliseconds(50);
  TestServer server(options);
  server.script()->endless = true;
  server.script()->before_step = [] { std::this_thread::sleep_for(milliseconds(5)); };
  Client client(server.port());
  client.Send(Chat({{"stream", true}, {"max_tokens", 400}}));
  client.ReadUntil("data: ");
  EXPECT_FALSE(server.app().Drain());
  server.app().Stop();
  EXPECT_FALSE(client.Read().complete);  // visibly cut: no last chunk
}

}  // namespace
}  // namespace hysparse
