// The capacity quote over HTTP: real engine and sockets; only the model is scripted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "tests/unit/server/test_server.h"

namespace hysparse {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using ::testing::HasSubstr;

TEST(Capacity, AnIdleServerAdmits) {
  TestServer server;
  const ClientResponse reply =
      server.Exchange(Post("/v1/capacity", R"({"prompt_tokens": 100, "max_tokens": 29, "temperature": 9})"));
  ASSERT_EQ(reply.status, 200) << reply.body;
  const json quote = reply.Json();
  const ServedModel& model = *server.app().model();
  const KvBytes bytes = model.kv_layout.AllocatedBytes(128);
  EXPECT_EQ(quote["verdict"], "admit");
  EXPECT_EQ(quote["reason"], nullptr);
  EXPECT_EQ(quote["model"], model.id());
  EXPECT_EQ(quote["kv_bytes"], (json{{"global", bytes.global}, {"window", bytes.window}, {"total", bytes.total()}}));
  EXPECT_GT(quote["sessions_that_fit"]["now"], 0);
  EXPECT_EQ(quote["sessions_that_fit"]["now"], quote["sessions_that_fit"]["empty_cache"]);
  EXPECT_EQ(quote["queue_ahead"], (json{{"requests", 0}, {"tokens", 0}}));
  EXPECT_EQ(quote["predicted_start_seconds"], nullptr) << "no step was measured";

  ASSERT_EQ(server.Exchange(Chat()).status, 200);
  ASSERT_TRUE(server.AwaitIdle());
  const json measured = server.Exchange(Post("/v1/capacity", R"({"prompt_tokens": 100, "max_tokens": 29})")).Json();
  EXPECT_EQ(measured["predicted_start_seconds"], 0);
  EXPECT_GT(measured["predicted_first_token_seconds"], 0);
}

TEST(Capacity, MessagesAreCountedAsAChatsAre) {
  TestServer server;
  const json chat = server.Exchange(Chat()).Json();
  const json quote = server.Exchange(Post("/v1/capacity", ChatBody({{"max_completion_tokens", 7}}).dump())).Json();
  EXPECT_EQ(quote["prompt_tokens"], chat["usage"]["prompt_tokens"]);
  EXPECT_EQ(quote["max_tokens"], 7);
  const json open = server.Exchange(Post("/v1/capacity", ChatBody().dump())).Json();
  EXPECT_EQ(open["max_tokens"], 512 - chat["usage"]["prompt_tokens"].get<int>());
  EXPECT_EQ(open["verdict"], "admit");
}

TEST(Capacity, RefusesWhatIsTooLong) {
  TestServer server;
  for (const char* body : {R"({"prompt_tokens": 500, "max_tokens": 13})", R"({"prompt_tokens": 512})",
                           R"({"prompt_tokens": 268435456, "max_tokens": 268435456})"}) {
    const ClientResponse reply = server.Exchange(Post("/v1/capacity", body));
    ASSERT_EQ(reply.status, 200) << reply.body;
    EXPECT_EQ(reply.Json()["verdict"], "refuse") << body;
    EXPECT_THAT(reply.Json()["reason"].get<std::string>(), HasSubstr("maximum context length is 512 tokens"));
    EXPECT_GT(reply.Json()["kv_bytes"]["total"], 0);
    EXPECT_EQ(reply.Json()["predicted_start_seconds"], nullptr);
  }
}

TEST(Capacity, ABusyServerQueues) {
  TestServer server;
  server.script()->endless = true;
  server.script()->before_step = [] { std::this_thread::sleep_for(milliseconds(2)); };
  Client running(server.port()), waiting(server.port());
  running.Send(Completion({{"prompt", "a river"}, {"n", 32}, {"max_tokens", 500}, {"stream", true}}));
  while (server.Stats().running < 32) std::this_thread::sleep_for(milliseconds(1));
  waiting.Send(Completion({{"prompt", "xyz"}, {"max_tokens", 5}}));
  while (server.Stats().waiting < 1) std::this_thread::sleep_for(milliseconds(1));
  const json quote = server.Exchange(Post("/v1/capacity", R"({"prompt_tokens": 100, "max_tokens": 50})")).Json();
  EXPECT_EQ(quote["verdict"], "queue");
  EXPECT_EQ(quote["queue_ahead"]["requests"], 1);
  EXPECT_GT(quote["queue_ahead"]["tokens"], 0);
  EXPECT_LT(quote["sessions_that_fit"]["now"], quote["sessions_that_fit"]["empty_cache"]);
  EXPECT_GT(quote["predicted_start_seconds"], 0);
  EXPECT_GT(quote["predicted_first_token_seconds"], quote["predicted_start_seconds"]);
  running.Reset();
}

TEST(Capacity, QuotesThatWaitForTheStepHoldNoWorker) {
  StepGate gate;
  TestServer server;
  std::atomic<bool> begun = false;
  server.script()->before_step = [&] {
    begun = true;
    gate.Wait();
  };
  Client running(server.port());
  running.Send(Chat());
  while (!begun) std::this_thread::sleep_for(milliseconds(1));
  std::vector<std::unique_ptr<Client>> asking;
  for (int i = 0; i < 4 * server.app().options().worker_threads; ++i) {
    asking.push_back(std::make_unique<Client>(server.port()));
    asking.back()->Send(Post("/v1/capacity", R"({"prompt_tokens": 100, "max_tokens": 50})"));
  }
  EXPECT_EQ(asking.back()->ReadSome(milliseconds(50)), "") << "answered in the middle of a step";
  EXPECT_EQ(server.Exchange(Post("/tokenize", R"({"prompt": "a river"})")).status, 200);
  gate.Open();
  for (auto& client : asking) EXPECT_EQ(client->Read().status, 200);
}

TEST(Capacity, BadInputNamesTheField) {
  TestServer server;
  const std::pair<const char*, const char*> rows[] = {
      {R"({})", "prompt_tokens"},
      {R"({"max_tokens": 5})", "prompt_tokens"},
      {R"({"prompt_tokens": 5, "messages": [{"role": "user", "content": "x"}]})", "prompt_tokens"},
      {R"({"prompt_tokens": 0})", "prompt_tokens"},
      {R"({"prompt_tokens": -1})", "prompt_tokens"},
      {R"({"prompt_tokens": 268435457})", "prompt_tokens"},
      {R"({"prompt_tokens": 9223372036854775807})", "prompt_tokens"},
      {R"({"prompt_tokens": 18446744073709551615})", "prompt_tokens"},
      {R"({"prompt_tokens": 1e300})", "prompt_tokens"},
      {R"({"prompt_tokens": 1.5})", "prompt_tokens"},
      {R"({"prompt_tokens": "12"})", "prompt_tokens"},
      {R"({"prompt_tokens": [1]})", "prompt_tokens"},
      {R"({"prompt_tokens": 5, "max_tokens": 0})", "max_tokens"},
      {R"({"prompt_tokens": 5, "max_tokens": -7})", "max_tokens"},
      {R"({"prompt_tokens": 5, "max_tokens": 9223372036854775807})", "max_tokens"},
      {R"({"prompt_tokens": 5, "max_tokens": 2.5})", "max_tokens"},
      {R"({"messages": []})", "messages"},
      {R"({"messages": [{"role": "king", "content": "x"}]})", "messages[0].role"},
  };
  for (const auto& [body, field] : rows) {
    const ClientResponse reply = server.Exchange(Post("/v1/capacity", body));
    EXPECT_EQ(reply.status, 400) << body;
    EXPECT_EQ(reply.Json()["error"]["param"], field) << body << reply.body;
  }
  EXPECT_EQ(server.Exchange(Post("/v1/capacity", R"({"prompt_tokens": 5, "model": "another"})")).status, 404);
}

}  // namespace
}  // namespace hysparse
