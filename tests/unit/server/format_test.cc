// Exact bytes of every answer, as the OpenAI API documents them.
#include "server/openai/format.h"

#include <gtest/gtest.h>

#include "tests/unit/server/test_model.h"

namespace hysparse::openai {
namespace {

ReplyHeader Header(bool chat, bool include_usage = false) {
  static const std::shared_ptr<const Tokenizer> tokenizer = ByteTokenizer();
  return {chat, chat ? "chatcmpl-1" : "cmpl-1", "m", 1700000000, include_usage, tokenizer.get()};
}

TEST(Format, Errors) {
  EXPECT_EQ(ErrorBody(ToApiError(BadField("n", "must be 1"))),
            R"({"error":{"message":"'n' must be 1","type":"invalid_request_error","param":"n","code":null}})");
  EXPECT_EQ(ErrorBody(ToApiError(ModelNotFound("gpt"))),
            R"({"error":{"message":"The model `gpt` does not exist. GET /v1/models lists what is served.",)"
            R"("type":"invalid_request_error","param":"model","code":"model_not_found"}})");
  EXPECT_EQ(
      ErrorBody(HttpError(500, "broken \xff byte")),
      "{\"error\":{\"message\":\"broken \xEF\xBF\xBD byte\",\"type\":\"server_error\",\"param\":null,\"code\":null}}");
  const HttpResponse busy = ErrorResponse(ToApiError(absl::ResourceExhaustedError("full")));
  EXPECT_EQ(busy.status, 429);
  EXPECT_EQ(busy.headers, (HttpHeaders{{"retry-after", "1"}}));
}

TEST(Format, ChatStreamEvents) {
  const ReplyHeader header = Header(true);
  EXPECT_EQ(
      RoleEvent(header, 1),
      "data: "
      "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m\",\"choices\":"
      "[{\"index\":1,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}]}"
      "\n\n");
  EXPECT_EQ(
      TextEvent(header, {0, "h\n\xC3\xA9", std::nullopt, FinishReason::kNone}),
      "data: "
      "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m\",\"choices\":"
      "[{\"index\":0,\"delta\":{\"content\":\"h\\n\xC3\xA9\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n");
  EXPECT_EQ(
      FinishEvent(header, 0, FinishReason::kLength),
      "data: "
      "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m\",\"choices\":"
      "[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"length\"}]}\n\n");
  EXPECT_EQ(kDoneEvent, "data: [DONE]\n\n");
}

TEST(Format, UsageIsNullInEveryChunkButItsOwn) {
  const ReplyHeader header = Header(true, true);
  EXPECT_EQ(
      FinishEvent(header, 0, FinishReason::kStop),
      "data: "
      "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m\",\"choices\":"
      "[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":null}\n\n");
  EXPECT_EQ(
      UsageEvent(header, {7, 5, 4}),
      "data: "
      "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m\",\"choices\":"
      "[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":5,\"total_tokens\":12,\"prompt_tokens_details\":{"
      "\"cached_tokens\":4}}}\n\n");
}

TEST(Format, CompletionStreamEvents) {
  EXPECT_EQ(
      TextEvent(Header(false), {2, "x", std::nullopt, FinishReason::kStop}),
      "data: {\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":1700000000,\"model\":\"m\",\"choices\":"
      "[{\"index\":2,\"text\":\"x\",\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\n");
}

TEST(Format, FullReplies) {
  EXPECT_EQ(
      FullReply(Header(true), {{0, "hi", std::nullopt, FinishReason::kStop}}, {3, 2}),
      R"({"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"m","choices":[{"index":0,)"
      R"("message":{"role":"assistant","content":"hi","refusal":null},"logprobs":null,"finish_reason":"stop"}],)"
      R"("usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":0}}})");
  EXPECT_EQ(
      FullReply(Header(false),
                {{0, "a", std::nullopt, FinishReason::kLength}, {1, "b", std::nullopt, FinishReason::kStop}}, {3, 2}),
      R"({"id":"cmpl-1","object":"text_completion","created":1700000000,"model":"m","choices":[)"
      R"({"index":0,"text":"a","logprobs":null,"finish_reason":"length"},)"
      R"({"index":1,"text":"b","logprobs":null,"finish_reason":"stop"}],)"
      R"("usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":0}}})");
}

TEST(Format, ChatLogprobs) {
  ReplyLogprobs logprobs;
  logprobs.chat.push_back({{'A', -0.5f, {{'A', -0.5f}, {0xE2, -1.25f}}}, 0, 1});
  EXPECT_EQ(
      FullReply(Header(true), {{0, "A", logprobs, FinishReason::kStop}}, {1, 1}),
      R"({"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"m","choices":[{"index":0,)"
      R"("message":{"role":"assistant","content":"A","refusal":null},"logprobs":{"content":[{"token":"A",)"
      R"("logprob":-0.5,"bytes":[65],"top_logprobs":[{"token":"A","logprob":-0.5,"bytes":[65]},)"
      R"({"token":"bytes:\\xe2","logprob":-1.25,"bytes":[226]}]}],"refusal":null},"finish_reason":"stop"}],)"
      R"("usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2,"prompt_tokens_details":{"cached_tokens":0}}})");
}

TEST(Format, CompletionLogprobs) {
  ReplyLogprobs logprobs;
  logprobs.completion.push_back({{'A', 0, {}}, 0, false});
  logprobs.completion.push_back({{'B', -2.0f, {{'C', -0.5f}}}, 1, true});
  logprobs.completion.push_back({{'D', -INFINITY, {}}, 2, true});
  EXPECT_EQ(
      TextEvent(Header(false), {0, "ABD", logprobs, FinishReason::kLength}),
      "data: {\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":1700000000,\"model\":\"m\",\"choices\":"
      "[{\"index\":0,\"text\":\"ABD\",\"logprobs\":{\"tokens\":[\"A\",\"B\",\"D\"],\"token_logprobs\":[null,-2.0,-9999."
      "0],"
      "\"top_logprobs\":[null,{\"C\":-0.5,\"B\":-2.0},{\"D\":-9999.0}],\"text_offset\":[0,1,2]},"
      "\"finish_reason\":\"length\"}]}\n\n");
}

TEST(Format, TokenNames) {
  const auto tokenizer = ByteTokenizer();
  EXPECT_EQ(TokenName(*tokenizer, 'x'), "x");
  EXPECT_EQ(TokenName(*tokenizer, ' '), " ");
  EXPECT_EQ(TokenName(*tokenizer, 0xC3), "bytes:\\xc3");
  EXPECT_EQ(TokenName(*tokenizer, kImEnd), "<|im_end|>");
}

TEST(Format, ModelsAndTokens) {
  ServedModel model;
  model.names = {"org/a", "b"};
  model.created = 5;
  model.max_model_len = 99;
  model.tokenizer = ByteTokenizer();
  EXPECT_EQ(
      ModelList(model),
      R"({"object":"list","data":[{"id":"org/a","object":"model","created":5,"owned_by":"hysparse","max_model_len":99},)"
      R"({"id":"b","object":"model","created":5,"owned_by":"hysparse","max_model_len":99}]})");
  EXPECT_EQ(TokenizeReply(model, {72, 105}, false),
            R"({"count":2,"max_model_len":99,"tokens":[72,105],"token_strs":null})");
  EXPECT_EQ(TokenizeReply(model, {72, 32}, true),
            "{\"count\":2,\"max_model_len\":99,\"tokens\":[72,32],\"token_strs\":[\"H\",\"\xC4\xA0\"]}");
  EXPECT_EQ(DetokenizeReply("Hi"), R"({"prompt":"Hi"})");
}

}  // namespace
}  // namespace hysparse::openai
