// Generations end to end over HTTP: a real engine, tokenizer and sockets; only the model is scripted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/unit/server/test_server.h"

namespace hysparse {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

// The events of a stream, parsed; "[DONE]" as a string.
std::vector<json> Events(const std::string& body) {
  std::vector<json> events;
  for (size_t at = 0; (at = body.find("data: ", at)) != std::string::npos;) {
    const std::string line = body.substr(at + 6, body.find("\n\n", at) - at - 6);
    events.push_back(line == "[DONE]" ? json("[DONE]") : json::parse(line));
    at += 6 + line.size();
  }
  return events;
}

TEST(Serving, ChatAnswer) {
  TestServer server;
  const ClientResponse r = server.Exchange(Chat({{"model", "alias"}}));
  ASSERT_EQ(r.status, 200) << r.body;
  const json body = r.Json();
  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(body["model"], "alias");
  EXPECT_EQ(body["choices"][0]["message"]["content"], "Hello world");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "stop");
  // "<|im_start|>" "user\n" "hi" "<|im_end|>" "\n" "<|im_start|>" "assistant\n"; the answer and its stop token.
  EXPECT_EQ(body["usage"], (json{{"prompt_tokens", 1 + 5 + 2 + 1 + 1 + 1 + 10},
                                 {"completion_tokens", 12},
                                 {"total_tokens", 33},
                                 {"prompt_tokens_details", {{"cached_tokens", 0}}}}));
  EXPECT_EQ(r.Header("content-type"), "application/json");
  EXPECT_FALSE(r.Header("x-request-id").empty());
  EXPECT_TRUE(server.AwaitIdle());
}

TEST(Serving, ChatStreamHasTheDocumentedOrder) {
  TestServer server;
  server.script()->answers = {"ab", "c"};
  const ClientResponse r =
      server.Exchange(Chat({{"stream", true}, {"n", 2}, {"stream_options", {{"include_usage", true}}}}));
  ASSERT_EQ(r.status, 200);
  ASSERT_TRUE(r.complete);
  EXPECT_EQ(r.Header("content-type"), "text/event-stream; charset=utf-8");
  EXPECT_EQ(r.Header("transfer-encoding"), "chunked");
  const std::vector<json> events = Events(r.body);
  ASSERT_GE(events.size(), 8u) << r.body;
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(events[i]["choices"][0]["index"], i);
    EXPECT_EQ(events[i]["choices"][0]["delta"], (json{{"role", "assistant"}, {"content", ""}}));
  }
  std::string text[2];
  int finished = 0;
  for (size_t i = 2; i + 2 < events.size(); ++i) {
    const json& choice = events[i]["choices"][0];
    EXPECT_EQ(events[i]["id"], events[0]["id"]);
    EXPECT_TRUE(events[i].contains("usage") && events[i]["usage"].is_null());
    EXPECT_FALSE(choice["delta"].contains("role"));
    text[choice["index"].get<int>()] += choice["delta"].value("content", "");
    if (choice["finish_reason"].is_null()) continue;
    ++finished;
    EXPECT_EQ(choice["delta"], json::object());
  }
  EXPECT_EQ(text[0], "ab");
  EXPECT_EQ(text[1], "c");
  EXPECT_EQ(finished, 2);
  const json& usage = events[events.size() - 2];
  EXPECT_EQ(usage["choices"], json::array());
  EXPECT_EQ(usage["usage"]["completion_tokens"], 3 + 2);
  EXPECT_EQ(usage["usage"]["prompt_tokens"], 21);
  EXPECT_EQ(events.back(), "[DONE]");
}

TEST(Serving, StreamAndFullAnswerAgreeOnMultibyteText) {
  TestServer server;
  const std::string text = "h\xC3\xA9\xE2\x82\xAC \xF0\x9F\x98\x80!";
  server.script()->answers = {text};
  EXPECT_EQ(server.Exchange(Chat()).Json()["choices"][0]["message"]["content"], text);
  std::string streamed;
  for (const json& event : Events(server.Exchange(Chat({{"stream", true}})).body)) {
    if (event.is_object()) streamed += event["choices"][0]["delta"].value("content", "");
  }
  EXPECT_EQ(streamed, text);
}

TEST(Serving, BrokenCharactersAreReplacedNotSent) {
  TestServer server;
  server.script()->answers = {"a\xE2\x82"};
  EXPECT_EQ(server.Exchange(Chat()).Json()["choices"][0]["message"]["content"], "a\xEF\xBF\xBD");
}

TEST(Serving, StopStringEndsTheTextAndTheSequence) {
  TestServer server;
  server.script()->answers = {"one END two"};
  server.script()->endless = true;
  server.script()->before_step = [] { std::this_thread::sleep_for(milliseconds(1)); };
  const json body = server.Exchange(Chat({{"stop", {"ZZZ", "END"}}, {"max_tokens", 300}, {"logprobs", true}})).Json();
  EXPECT_EQ(body["choices"][0]["message"]["content"], "one ");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(body["usage"]["completion_tokens"], 7);  // up to the D that completed it, nothing later
  EXPECT_EQ(body["choices"][0]["logprobs"]["content"].size(), 4u);
  EXPECT_TRUE(server.AwaitIdle());
  EXPECT_LT(server.script()->steps, 300);
}

TEST(Serving, StopStringsWaitForMinTokens) {
  TestServer server;
  server.script()->answers = {"aXbXc"};
  const json body = server.Exchange(Chat({{"stop", "X"}, {"min_tokens", 3}})).Json();
  EXPECT_EQ(body["choices"][0]["message"]["content"], "aXb");
}

TEST(Serving, LengthEndsTheText) {
  TestServer server;
  const json body = server.Exchange(Chat({{"max_completion_tokens", 4}, {"max_tokens", 9}})).Json();
  EXPECT_EQ(body["choices"][0]["message"]["content"], "Hell");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(body["usage"]["completion_tokens"], 4);
  // Completions: 16 unless said otherwise.
  server.script()->endless = true;
  EXPECT_EQ(server.Exchange(Completion({{"prompt", "x"}})).Json()["usage"]["completion_tokens"], 16);
}

TEST(Serving, ChatFillsTheContextByDefault) {
  TestServer server(QuickOptions(), true, 64);
  server.script()->endless = true;
  const json body = server.Exchange(Chat()).Json();
  EXPECT_EQ(body["usage"]["completion_tokens"], 64 - 21);
  EXPECT_EQ(body["choices"][0]["finish_reason"], "length");
}

TEST(Serving, TooLongForTheContext) {
  TestServer server(QuickOptions(), true, 64);
  const ClientResponse chat = server.Exchange(Chat({{"max_tokens", 44}}));
  EXPECT_EQ(chat.status, 400);
  EXPECT_EQ(chat.Json()["error"], (json{{"message",
                                         "This model's maximum context length is 64 tokens. However, you requested 65 "
                                         "tokens (21 in the messages, 44 in "
                                         "the completion). Please reduce the length of the messages or completion."},
                                        {"type", "invalid_request_error"},
                                        {"param", "messages"},
                                        {"code", "context_length_exceeded"}}));
  const ClientResponse long_prompt = server.Exchange(Completion({{"prompt", std::string(64, 'x')}}));
  EXPECT_EQ(long_prompt.status, 400);
  EXPECT_EQ(long_prompt.Json()["error"]["code"], "context_length_exceeded");
  EXPECT_THAT(long_prompt.Json()["error"]["message"].get<std::string>(),
              HasSubstr("your prompt resulted in 64 tokens"));
  EXPECT_EQ(server.Exchange(Completion({{"prompt", std::string(63, 'x')}})).status, 200);
}

TEST(Serving, ContentNeverBecomesASpecialToken) {
  TestServer server;
  const auto tokens = [&](const json& body) {
    return server.Exchange(Post("/tokenize", body.dump())).Json()["tokens"];
  };
  const json chat = tokens({{"messages", {{{"role", "user"}, {"content", "<|im_end|>"}}}}});
  EXPECT_EQ(std::count(chat.begin(), chat.end(), kImEnd), 1);
  const json raw = tokens({{"prompt", "<|im_end|>"}});
  EXPECT_EQ(raw, json::array({kImEnd}));
}

TEST(Serving, CompletionsIndexIsPromptTimesNPlusI) {
  TestServer server;
  server.script()->answers = {"A", "B", "C"};
  const json body = server.Exchange(Completion({{"prompt", {"x", "yy"}}, {"n", 3}})).Json();
  ASSERT_EQ(body["choices"].size(), 6u);
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(body["choices"][i]["index"], i);
    EXPECT_EQ(body["choices"][i]["text"], std::string(1, "ABC"[i % 3]));
  }
  EXPECT_EQ(body["usage"]["prompt_tokens"], 3);       // each prompt once
  EXPECT_EQ(body["usage"]["completion_tokens"], 12);  // summed
}

TEST(Serving, EchoWithLogprobs) {
  TestServer server;
  server.script()->answers = {"Z"};
  const json body =
      server.Exchange(Completion({{"prompt", "h\xC3\xA9"}, {"echo", true}, {"logprobs", 2}, {"max_tokens", 1}})).Json();
  const json& choice = body["choices"][0];
  EXPECT_EQ(choice["text"], "h\xC3\xA9Z");
  EXPECT_EQ(choice["logprobs"]["tokens"], (json{"h", "bytes:\\xc3", "bytes:\\xa9", "Z"}));
  EXPECT_EQ(choice["logprobs"]["token_logprobs"], (json{nullptr, -0.25, -0.25, -0.25}));
  EXPECT_EQ(choice["logprobs"]["text_offset"], (json{0, 1, 1, 2}));
  EXPECT_TRUE(choice["logprobs"]["top_logprobs"][0].is_null());
  EXPECT_EQ(choice["logprobs"]["top_logprobs"][3], (json{{"Z", -0.25}, {"[", -0.5}}));
  EXPECT_EQ(choice["finish_reason"], "length");
}

TEST(Serving, EchoWithoutGenerating) {
  TestServer server;
  const json body = server
                        .Exchange(Completion(
                            {{"prompt", ByteIds("abc")}, {"echo", true}, {"logprobs", 0}, {"max_tokens", 0}, {"n", 2}}))
                        .Json();
  ASSERT_EQ(body["choices"].size(), 2u) << body;
  for (const json& choice : body["choices"]) {
    EXPECT_EQ(choice["text"], "abc");
    EXPECT_EQ(choice["logprobs"]["token_logprobs"], (json{nullptr, -0.25, -0.25}));
    EXPECT_EQ(choice["finish_reason"], "length");
  }
  EXPECT_EQ(body["usage"]["completion_tokens"], 0);
  EXPECT_EQ(
      server.Exchange(Completion({{"prompt", "abc"}, {"echo", true}, {"max_tokens", 0}})).Json()["choices"][0]["text"],
      "abc");
  EXPECT_TRUE(server.AwaitIdle());
}

TEST(Serving, EchoStreams) {
  TestServer server;
  server.script()->answers = {"Z", "Y"};
  const ClientResponse r = server.Exchange(
      Completion({{"prompt", "ab"}, {"echo", true}, {"logprobs", 1}, {"stream", true}, {"n", 2}, {"max_tokens", 5}}));
  std::string text[2];
  json logprobs[2] = {json::array(), json::array()};
  for (const json& event : Events(r.body)) {
    if (!event.is_object()) continue;
    const json& choice = event["choices"][0];
    const int index = choice["index"];
    text[index] += choice["text"];
    for (const json& value : choice["logprobs"]["token_logprobs"]) logprobs[index].push_back(value);
  }
  EXPECT_EQ(text[0], "abZ");
  EXPECT_EQ(text[1], "abY");
  EXPECT_EQ(logprobs[0], (json{nullptr, -0.25, -0.25}));
  EXPECT_EQ(logprobs[1], (json{nullptr, -0.25, -0.125}));
}

TEST(Serving, TextOffsetsCountCharactersFromThePromptsStart) {
  TestServer server;
  server.script()->answers = {"\xE2\x82\xAC!"};
  const json body = server.Exchange(Completion({{"prompt", "\xC3\xA9x"}, {"logprobs", 0}})).Json();
  EXPECT_EQ(body["choices"][0]["logprobs"]["text_offset"], (json{2, 2, 2, 3}));
}

TEST(Serving, BestOfTakesTheHighestMeanLogprob) {
  TestServer server;
  server.script()->answers = {"A", "B", "C"};
  const json body = server.Exchange(Completion({{"prompt", "x"}, {"best_of", 3}})).Json();
  ASSERT_EQ(body["choices"].size(), 1u);
  EXPECT_EQ(body["choices"][0]["text"], "B");
  EXPECT_EQ(body["choices"][0]["index"], 0);
  EXPECT_TRUE(body["choices"][0]["logprobs"].is_null());
  EXPECT_EQ(body["usage"]["completion_tokens"], 6);
}

TEST(Serving, ModelsByIdWithSlash) {
  TestServer server;
  EXPECT_EQ(server.Exchange(Get("/v1/models")).Json()["data"][0]["id"], "org/tiny");
  EXPECT_EQ(server.Exchange(Get("/v1/models/org/tiny")).Json()["id"], "org/tiny");
  EXPECT_EQ(server.Exchange(Get("/v1/models/org%2Ftiny")).Json()["id"], "org/tiny");
  const ClientResponse missing = server.Exchange(Get("/v1/models/nope"));
  EXPECT_EQ(missing.status, 404);
  EXPECT_EQ(missing.Json()["error"]["code"], "model_not_found");
  EXPECT_EQ(server.Exchange(Chat({{"model", "nope"}})).Json()["error"]["code"], "model_not_found");
}

TEST(Serving, TokenizeAndDetokenize) {
  TestServer server;
  EXPECT_EQ(server.Exchange(Post("/tokenize", R"({"prompt":"Hi","return_token_strs":true})")).body,
            R"({"count":2,"max_model_len":512,"tokens":[72,105],"token_strs":["H","i"]})");
  EXPECT_EQ(server.Exchange(Post("/detokenize", R"({"tokens":[72,105,259]})")).body, R"({"prompt":"Hi<|im_end|>"})");
  const ClientResponse bad = server.Exchange(Post("/detokenize", R"({"tokens":[260]})"));
  EXPECT_EQ(bad.status, 400);
  EXPECT_EQ(bad.Json()["error"]["param"], "tokens");
}

TEST(Serving, WhatComesLaterSaysSo) {
  TestServer server;
  const ClientResponse responses = server.Exchange(Post("/v1/responses", R"({"input":"x"})"));
  EXPECT_EQ(responses.status, 400);
  EXPECT_THAT(responses.body, HasSubstr("not supported yet"));
  EXPECT_EQ(server.Exchange(Chat({{"tools", {{{"type", "function"}}}}})).status, 400);
}

TEST(Serving, TemplateErrorsAre400) {
  TestServer server;
  const ClientResponse r =
      server.Exchange(Post("/v1/chat/completions", R"({"messages":[{"role":"user","content":"raise"}]})"));
  EXPECT_EQ(r.status, 400);
  EXPECT_EQ(r.Json()["error"]["type"], "invalid_request_error");
}

TEST(Serving, UnknownFieldsAreCountedOrRefused) {
  TestServer server;
  EXPECT_EQ(server.Exchange(Chat({{"frob", 1}, {"nicate", 2}})).status, 200);
  EXPECT_THAT(server.app().metrics().Scrape(),
              HasSubstr("hysparse:unknown_request_fields_total{model_name=\"org/tiny\"} 2\n"));
  ServerOptions strict = QuickOptions();
  strict.strict = true;
  TestServer strict_server(strict);
  const ClientResponse r = strict_server.Exchange(Chat({{"frob", 1}}));
  EXPECT_EQ(r.status, 400);
  EXPECT_EQ(r.Json()["error"]["param"], "frob");
}

TEST(Serving, AStepThatFailsFailsItsRequestsNotTheProcess) {
  TestServer server;
  server.script()->fail = absl::InternalError("device lost");
  const ClientResponse r = server.Exchange(Chat());
  EXPECT_EQ(r.status, 500);
  EXPECT_EQ(r.Json()["error"]["type"], "server_error");
  const ClientResponse stream = server.Exchange(Chat({{"stream", true}}));
  EXPECT_EQ(stream.status, 200);
  ASSERT_TRUE(stream.complete);
  const std::vector<json> events = Events(stream.body);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0]["error"]["type"], "server_error");
  EXPECT_TRUE(server.AwaitIdle());
}

TEST(Serving, AFullQueueAnswers429) {
  StepGate gate;
  TestServer server;
  server.script()->before_step = [&] { gate.Wait(); };
  std::vector<std::unique_ptr<Client>> clients;
  ClientResponse refused;
  for (int i = 0; i < 8 && refused.status == 0; ++i) {
    clients.push_back(std::make_unique<Client>(server.port()));
    clients.back()->Send(Completion({{"prompt", "x"}, {"n", 20}}));
    const std::string early = clients.back()->ReadUntil("\r\n\r\n", milliseconds(300));
    if (!early.empty()) refused = clients.back()->Read();
  }
  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(refused.Header("retry-after"), "1");
  EXPECT_EQ(refused.Json()["error"]["type"], "rate_limit_error");
  gate.Open();
  clients.pop_back();
  for (auto& client : clients) EXPECT_EQ(client->Read().status, 200);
}

TEST(Serving, AFullQueueRefusesBeforeItParses) {
  StepGate gate;
  TestServer server;
  server.script()->before_step = [&] { gate.Wait(); };
  std::vector<std::unique_ptr<Client>> clients;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (server.Stats().waiting < 64 && std::chrono::steady_clock::now() < deadline) {
    clients.push_back(std::make_unique<Client>(server.port()));
    clients.back()->Send(Completion({{"prompt", "x"}}));
    std::this_thread::sleep_for(milliseconds(1));
  }
  for (const char* path : {"/v1/completions", "/v1/chat/completions"}) {
    const ClientResponse refused = server.Exchange(Post(path, "no JSON"));
    EXPECT_EQ(refused.status, 429) << path;
    EXPECT_EQ(refused.Header("retry-after"), "1");
    EXPECT_THAT(refused.body, HasSubstr("64 of 64"));
  }
  gate.Open();
  for (auto& client : clients) EXPECT_NE(client->Read().status, 0);
  EXPECT_EQ(server.Exchange(Post("/v1/completions", "no JSON")).status, 400);
}

TEST(Serving, KeepsALongPrefillsStreamAlive) {
  StepGate gate;
  TestServer server;
  server.script()->before_step = [&] { gate.Wait(); };
  Client client(server.port());
  client.Send(Chat({{"stream", true}}));
  const std::string early = client.ReadUntil(": keep-alive\n\n", milliseconds(5000));
  EXPECT_THAT(early, HasSubstr("HTTP/1.1 200 OK"));  // headers at once
  EXPECT_THAT(early, HasSubstr(": keep-alive\n\n"));
  EXPECT_THAT(early, Not(HasSubstr("data:")));
  gate.Open();
  const ClientResponse r = client.Read();
  EXPECT_TRUE(r.complete);
  EXPECT_THAT(r.body, EndsWith("data: [DONE]\n\n"));
}

TEST(Serving, AnswersOneDotZeroWithoutChunks) {
  TestServer server;
  const std::string body = ChatBody({{"stream", true}}).dump();
  Client client(server.port());
  client.Send("POST /v1/chat/completions HTTP/1.0\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
              body);
  const std::string raw = client.ReadUntil("[DONE]\n\n");
  EXPECT_THAT(raw, Not(HasSubstr("chunked")));
  EXPECT_THAT(raw, HasSubstr("connection: close"));
  EXPECT_THAT(raw, EndsWith("data: [DONE]\n\n"));
}

}  // namespace
}  // namespace hysparse
