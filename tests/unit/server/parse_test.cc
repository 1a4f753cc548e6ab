#include "server/openai/parse.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/error_map.h"
#include "server/generation.h"
#include "server/openai/field_reader.h"

namespace hysparse::openai {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int32_t kVocab = 1000;

// Parsed and range-checked, as the handler does it.
absl::StatusOr<CompletionCall> Chat(const std::string& body) {
  absl::StatusOr<CompletionCall> call = ParseChat(body, SamplingParams());
  if (!call.ok()) return call;
  const absl::Status ranges = CheckRanges(call->spec, {.vocab = kVocab});
  return ranges.ok() ? std::move(call) : ranges;
}
absl::StatusOr<CompletionCall> Completion(const std::string& body) {
  absl::StatusOr<CompletionCall> call = ParseCompletion(body, SamplingParams());
  if (!call.ok()) return call;
  const absl::Status ranges = CheckRanges(call->spec, {.vocab = kVocab});
  return ranges.ok() ? std::move(call) : ranges;
}
// A chat body with these fields besides a valid message.
std::string With(const std::string& fields) {
  return R"({"messages":[{"role":"user","content":"hi"}])" + (fields.empty() ? "" : "," + fields) + "}";
}
std::string Message(const std::string& message) { return R"({"messages":[)" + message + "]}"; }

struct BadCase {
  std::string body, param, message;
};

void ExpectBad(const absl::Status& status, const BadCase& c) {
  ASSERT_FALSE(status.ok()) << c.body;
  const ApiError error = ToApiError(status);
  EXPECT_EQ(error.http_status, 400) << c.body;
  EXPECT_EQ(error.type, "invalid_request_error") << c.body;
  EXPECT_EQ(error.param, c.param) << c.body << " → " << error.message;
  EXPECT_THAT(error.message, HasSubstr(c.message)) << c.body;
}

TEST(ParseBody, RefusesWhatIsNoJsonObject) {
  const std::string bodies[] = {"",
                                "{",
                                "[]",
                                "\"x\"",
                                "null",
                                "{\"a\":}",
                                "{\"a\":1,}",
                                "{'a':1}",
                                "{\"a\":NaN}",
                                "{\"a\":1e999}",
                                "{\"a\":1}{",
                                "{\"a\":\"\xff\"}",
                                "{\"a\":\"\xc3\x28\"}",
                                "{\"\xed\xa0\x80\":1}",
                                "{\"a\":\"\\ud800\"}",
                                "{\"a\":\"\x01\"}",
                                "\xff\xfe{}",
                                std::string("{\"a\":\0}", 7)};
  for (const std::string& body : bodies) {
    const auto json = ParseBody(body);
    ASSERT_FALSE(json.ok()) << body;
    EXPECT_EQ(json.status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(ParseBody, BoundsTheDepth) {
  const auto nested = [](int depth) { return "{\"a\":" + std::string(depth, '[') + std::string(depth, ']') + "}"; };
  EXPECT_TRUE(ParseBody(nested(63)).ok());
  EXPECT_THAT(std::string(ParseBody(nested(64)).status().message()), HasSubstr("nested deeper"));
  EXPECT_FALSE(ParseBody(std::string(1 << 20, '[')).ok());
  EXPECT_TRUE(
      ParseBody("{\"a\":\"" + std::string(100, '[') + "\\\"" + std::string(100, '{') + "\"}").ok());  // in strings
}

TEST(ParseChat, EveryRefusedField) {
  const BadCase cases[] = {
      {"{}", "messages", "non-empty list"},
      {R"({"messages":[]})", "messages", "non-empty list"},
      {R"({"messages":"hi"})", "messages", "non-empty list"},
      {Message("1"), "messages[0]", "object"},
      {Message("{}"), "messages[0].role", "missing"},
      {Message(R"({"role":5,"content":"x"})"), "messages[0].role", "string"},
      {Message(R"({"role":"boss","content":"x"})"), "messages[0].role", "must be system"},
      {Message(R"({"role":"user"})"), "messages[0].content", "missing"},
      {Message(R"({"role":"user","content":null})"), "messages[0].content", "missing"},
      {Message(R"({"role":"user","content":7})"), "messages[0].content", "text parts"},
      {Message(R"({"role":"user","content":[]})"), "messages[0].content", "text parts"},
      {Message(R"({"role":"user","content":["x"]})"), "messages[0].content[0]", "object"},
      {Message(R"({"role":"user","content":[{"type":"text"}]})"), "messages[0].content[0]", "no text"},
      {Message(R"({"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{}}]})"),
       "messages[0].content[1]", "no images"},
      {Message(R"({"role":"user","content":[{"type":"input_audio"}]})"), "messages[0].content[0]", "no images"},
      {Message(R"({"role":"user","content":"a"},{"role":"tool","content":"b"})"), "messages[1].role",
       "not supported yet"},
      {Message(R"({"role":"assistant","content":null,"tool_calls":[{}]})"), "messages[0].tool_calls",
       "not supported yet"},
      {With(R"("model":5)"), "model", "string"},
      {With(R"("temperature":"hot")"), "temperature", "number"},
      {With(R"("temperature":-0.1)"), "temperature", "[0, 2]"},
      {With(R"("temperature":2.1)"), "temperature", "[0, 2]"},
      {With(R"("temperature":1e300)"), "temperature", "range"},
      {With(R"("top_p":1.01)"), "top_p", "[0, 1]"},
      {With(R"("top_p":-1)"), "top_p", "[0, 1]"},
      {With(R"("min_p":2)"), "min_p", "[0, 1]"},
      {With(R"("top_k":-2)"), "top_k", "must lie in"},
      {With(R"("top_k":1.5)"), "top_k", "integer"},
      {With(R"("presence_penalty":2.5)"), "presence_penalty", "[-2, 2]"},
      {With(R"("frequency_penalty":-3)"), "frequency_penalty", "[-2, 2]"},
      {With(R"("repetition_penalty":0)"), "repetition_penalty", "must lie in"},
      {With(R"("n":0)"), "n", "[1, 128]"},
      {With(R"("n":129)"), "n", "[1, 128]"},
      {With(R"("n":-1)"), "n", "[1, 128]"},
      {With(R"("n":1e18)"), "n", "integer"},
      {With(R"("n":3000000000)"), "n", "out of range"},
      {With(R"("n":true)"), "n", "integer"},
      {With(R"("max_tokens":0)"), "max_tokens", "[1,"},
      {With(R"("max_tokens":-5)"), "max_tokens", "[1,"},
      {With(R"("max_tokens":99999999999)"), "max_tokens", "out of range"},
      {With(R"("max_completion_tokens":0)"), "max_completion_tokens", "at least 1"},
      {With(R"("max_tokens":4,"min_tokens":5)"), "min_tokens", "exceed max_tokens"},
      {With(R"("min_tokens":-1)"), "min_tokens", "must lie in"},
      {With(R"("stop":5)"), "stop", "string or a list"},
      {With(R"("stop":["a",5])"), "stop", "string or a list"},
      {With(R"("stop":"")"), "stop", "empty string"},
      {With("\"stop\":\"" + std::string(1025, 'x') + "\""), "stop", "1024 bytes"},
      {With(R"("stop":[)" +
            [] {
              std::string s = "\"a\"";
              for (int i = 0; i < 64; ++i) s += ",\"a\"";
              return s;
            }() +
            "]"),
       "stop", "the limit is 64"},
      {With(R"("stop_token_ids":5)"), "stop_token_ids", "list of token ids"},
      {With(R"("stop_token_ids":[1000])"), "stop_token_ids", "outside the vocabulary [0, 1000)"},
      {With(R"("stop_token_ids":[-1])"), "stop_token_ids", "no token id"},
      {With(R"("stop_token_ids":["a"])"), "stop_token_ids", "integer"},
      {With(R"("logit_bias":[])"), "logit_bias", "object"},
      {With(R"("logit_bias":{"x":1})"), "logit_bias", "no token id"},
      {With(R"("logit_bias":{"1.5":1})"), "logit_bias", "no token id"},
      {With(R"("logit_bias":{"5":"a"})"), "logit_bias", "no number"},
      {With(R"("logit_bias":{"5":101})"), "logit_bias", "[-100, 100]"},
      {With(R"("logit_bias":{"1000":1})"), "logit_bias", "outside the vocabulary"},
      {With(R"("logit_bias":{"-1":1})"), "logit_bias", "outside the vocabulary"},
      {With(R"("logit_bias":{"99999999999":1})"), "logit_bias", "no token id"},
      {With(R"("logprobs":5)"), "logprobs", "true or false"},
      {With(R"("top_logprobs":3)"), "top_logprobs", "only allowed with logprobs"},
      {With(R"("logprobs":false,"top_logprobs":3)"), "top_logprobs", "only allowed with logprobs"},
      {With(R"("logprobs":true,"top_logprobs":21)"), "top_logprobs", "[0, 20]"},
      {With(R"("logprobs":true,"top_logprobs":-1)"), "top_logprobs", "[0, 20]"},
      {With(R"("seed":1.5)"), "seed", "integer"},
      {With(R"("seed":"x")"), "seed", "integer"},
      {With(R"("stream":"yes")"), "stream", "true or false"},
      {With(R"("stream_options":{"include_usage":true})"), "stream_options", "only allowed with stream"},
      {With(R"("stream":true,"stream_options":5)"), "stream_options", "object"},
      {With(R"("stream":true,"stream_options":{"include_usage":1})"), "stream_options.include_usage", "true or false"},
      {With(R"("tools":[])"), "tools", "must not be an empty list"},
      {With(R"("tools":[{"type":"function","function":{"name":"f"}}])"), "tools", "not supported yet"},
      {With(R"("tool_choice":"auto")"), "tool_choice", "only allowed with tools"},
      {With(R"("functions":[{}])"), "functions", "not supported"},
      {With(R"("function_call":"auto")"), "function_call", "not supported"},
      {With(R"("response_format":{"type":"json_object"})"), "response_format", "not supported yet"},
      {With(R"("response_format":{"type":"json_schema","json_schema":{}})"), "response_format", "not supported yet"},
      {With(R"("response_format":{"type":"xml"})"), "response_format", "must be an object"},
      {With(R"("response_format":"text")"), "response_format", "must be an object"},
      {With(R"("audio":{"voice":"x"})"), "audio", "not supported"},
      {With(R"("modalities":["text","audio"])"), "modalities", "[\"text\"]"},
      {With(R"("chat_template":"{{ 1 }}")"), "chat_template", "the model's own"},
      {With(R"("chat_template_kwargs":5)"), "chat_template_kwargs", "object"},
      {With(R"("chat_template_kwargs":{"messages":"x"})"), "chat_template_kwargs", "must not set messages"},
      {With(R"("chat_template_kwargs":{"thinking":[1]})"), "chat_template_kwargs", "no short scalar"},
      {With(R"("reasoning_effort":3)"), "reasoning_effort", "string"},
      {With(R"("continue_final_message":true)"), "continue_final_message", "role assistant"},
      {With(R"("ignore_eos":1)"), "ignore_eos", "true or false"},
      {With(R"("priority":"high")"), "priority", "integer"},
      {With("\"cache_salt\":\"" + std::string(257, 's') + "\""), "cache_salt", "256 bytes"},
  };
  for (const BadCase& c : cases) ExpectBad(Chat(c.body).status(), c);
}

TEST(ParseCompletion, EveryRefusedField) {
  const BadCase cases[] = {
      {"{}", "prompt", "missing"},
      {R"({"prompt":null})", "prompt", "missing"},
      {R"({"prompt":5})", "prompt", "must be a string"},
      {R"({"prompt":{}})", "prompt", "must be a string"},
      {R"({"prompt":[]})", "prompt", "must not be empty"},
      {R"({"prompt":[true]})", "prompt", "must be a string"},
      {R"({"prompt":["a",1]})", "prompt", "must be a string"},
      {R"({"prompt":["a",[1]]})", "prompt", "must be a string"},
      {R"({"prompt":[1,"a"]})", "prompt", "integer"},
      {R"({"prompt":[1.5]})", "prompt", "integer"},
      {R"({"prompt":[[]]})", "prompt", "no token ids"},
      {R"({"prompt":[1000]})", "prompt", "outside the vocabulary"},
      {R"({"prompt":[-1]})", "prompt", "no token id"},
      {R"({"prompt":[[1,2],[4294967296]]})", "prompt", "no token id"},
      {R"({"prompt":["a","b"],"n":65})", "prompt", "the limit is 128"},
      {R"({"prompt":"a","max_tokens":0})", "max_tokens", "[1,"},
      {R"({"prompt":"a","max_tokens":-1,"echo":true})", "max_tokens", "[0,"},
      {R"({"prompt":"a","logprobs":21})", "logprobs", "[0, 20]"},
      {R"({"prompt":"a","logprobs":-1})", "logprobs", "[0, 20]"},
      {R"({"prompt":"a","logprobs":true})", "logprobs", "integer"},
      {R"({"prompt":"a","best_of":0})", "best_of", "[1, 128]"},
      {R"({"prompt":"a","best_of":129})", "best_of", "[1, 128]"},
      {R"({"prompt":"a","n":3,"best_of":2})", "best_of", "smaller than n"},
      {R"({"prompt":"a","best_of":2,"stream":true})", "best_of", "streamed"},
      {R"({"prompt":"a","suffix":"b"})", "suffix", "fill in the middle"},
      {R"({"prompt":"a","echo":"yes"})", "echo", "true or false"},
  };
  for (const BadCase& c : cases) ExpectBad(Completion(c.body).status(), c);
}

TEST(ParseChat, ReadsEveryField) {
  const auto call = Chat(
      R"({"model":"m","messages":[{"role":"developer","content":"be brief"},
          {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"name":"bob"},
          {"role":"assistant","content":null,"tool_calls":[]}],
          "temperature":0.5,"top_p":0.9,"top_k":40,"min_p":0.1,"presence_penalty":1,"frequency_penalty":-1,
          "repetition_penalty":1.1,"seed":-7,"n":2,"stream":true,"stream_options":{"include_usage":true},
          "stop":["x","y","z","u","v"],"max_tokens":5,"max_completion_tokens":9,"min_tokens":2,"ignore_eos":true,
          "stop_token_ids":[3],"logit_bias":{"5":-100,"6":1.5},"logprobs":true,"top_logprobs":4,"priority":-1,
          "cache_salt":"s","continue_final_message":true,"reasoning_effort":"low",
          "chat_template_kwargs":{"enable_thinking":false},"user":"u","metadata":{},"store":true,
          "response_format":{"type":"text"},"modalities":["text"],"service_tier":"auto","frobnicate":1})");
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_EQ(call->model, "m");
  EXPECT_TRUE(call->stream && call->include_usage);
  EXPECT_THAT(call->unknown_fields, ElementsAre("frobnicate"));
  const GenerationSpec& s = call->spec;
  EXPECT_FLOAT_EQ(s.sampling.temperature, 0.5f);
  EXPECT_FLOAT_EQ(s.sampling.top_p, 0.9f);
  EXPECT_FLOAT_EQ(s.sampling.min_p, 0.1f);
  EXPECT_EQ(s.sampling.top_k, 40);
  EXPECT_FLOAT_EQ(s.sampling.presence_penalty, 1);
  EXPECT_FLOAT_EQ(s.sampling.frequency_penalty, -1);
  EXPECT_FLOAT_EQ(s.sampling.repetition_penalty, 1.1f);
  EXPECT_THAT(s.sampling.logit_bias, ElementsAre(std::pair(5, -100.0f), std::pair(6, 1.5f)));
  EXPECT_EQ(s.seed, static_cast<uint64_t>(-7));
  EXPECT_EQ(s.n, 2);
  EXPECT_EQ(s.best_of, 2);
  EXPECT_EQ(s.max_tokens, 9);  // max_completion_tokens wins
  EXPECT_EQ(s.min_tokens, 2);
  EXPECT_TRUE(s.ignore_eos && s.logprobs);
  EXPECT_EQ(s.top_logprobs, 4);
  EXPECT_THAT(s.stop, ElementsAre("x", "y", "z", "u", "v"));  // more than four
  EXPECT_THAT(s.stop_token_ids, ElementsAre(3));
  EXPECT_EQ(s.priority, -1);
  EXPECT_EQ(s.cache_salt, "s");
  const auto& input = std::get<ChatTemplateInput>(s.prompts.at(0));
  EXPECT_EQ(
      input.messages.dump(),
      R"([{"role":"system","content":"be brief"},{"role":"user","content":"a\nb","name":"bob"},{"role":"assistant","content":""}])");
  EXPECT_EQ(input.kwargs.dump(), R"({"reasoning_effort":"low","enable_thinking":false})");
  EXPECT_TRUE(input.continue_final_message);
  EXPECT_FALSE(input.add_generation_prompt);
}

TEST(ParseChat, NullMeansAbsentEverywhere) {
  const auto call = Chat(With(
      R"("temperature":null,"top_p":null,"n":null,"stream":null,"stream_options":null,"stop":null,"max_tokens":null,
         "max_completion_tokens":null,"logit_bias":null,"logprobs":null,"top_logprobs":null,"seed":null,"tools":null,
         "tool_choice":null,"response_format":null,"chat_template":null,"chat_template_kwargs":null,"unheard_of":null)"));
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_THAT(call->unknown_fields, IsEmpty());
  EXPECT_FALSE(call->spec.max_tokens);
  EXPECT_FALSE(call->spec.seed);
  EXPECT_EQ(call->spec.n, 1);
}

TEST(ParseChat, TheRequestGoesBeforeTheDefaults) {
  SamplingParams defaults;
  defaults.temperature = 0.6f;
  defaults.top_k = 20;
  const auto call = ParseChat(With(R"("temperature":0.1)"), defaults);
  ASSERT_TRUE(call.ok());
  EXPECT_FLOAT_EQ(call->spec.sampling.temperature, 0.1f);
  EXPECT_EQ(call->spec.sampling.top_k, 20);
}

TEST(ParseChat, WholeFloatsAreIntegersAndMinusOneTurnsTopKOff) {
  const auto call = Chat(With(R"("max_tokens":5.0,"top_k":-1,"seed":18446744073709551615)"));
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_EQ(call->spec.max_tokens, 5);
  EXPECT_EQ(call->spec.sampling.top_k, 0);
  EXPECT_EQ(call->spec.seed, ~uint64_t{0});
}

TEST(ParseCompletion, PromptsInFourShapes) {
  EXPECT_EQ(std::get<std::string>(Completion(R"({"prompt":"a"})")->spec.prompts.at(0)), "a");
  EXPECT_EQ(Completion(R"({"prompt":["a","b"]})")->spec.prompts.size(), 2u);
  EXPECT_THAT(std::get<std::vector<int32_t>>(Completion(R"({"prompt":[1,2]})")->spec.prompts.at(0)), ElementsAre(1, 2));
  const auto lists = Completion(R"({"prompt":[[1,2],[3]]})");
  ASSERT_EQ(lists->spec.prompts.size(), 2u);
  EXPECT_THAT(std::get<std::vector<int32_t>>(lists->spec.prompts[1]), ElementsAre(3));
}

TEST(ParseCompletion, Defaults) {
  const auto call = Completion(R"({"prompt":"a"})");
  ASSERT_TRUE(call.ok());
  EXPECT_FALSE(call->spec.max_tokens);
  EXPECT_EQ(call->spec.default_max_tokens, 16);
  EXPECT_FALSE(call->spec.logprobs);
  const auto zero = Completion(R"({"prompt":"a","logprobs":0,"max_tokens":0,"echo":true,"suffix":""})");
  ASSERT_TRUE(zero.ok()) << zero.status();
  EXPECT_TRUE(zero->spec.logprobs);  // 0 asks for the chosen token's
  EXPECT_EQ(zero->spec.max_tokens, 0);
}

TEST(ParseTokenize, BothShapes) {
  const auto text = ParseTokenize(R"({"prompt":"a","return_token_strs":true})");
  ASSERT_TRUE(text.ok());
  EXPECT_TRUE(text->add_special_tokens && text->return_token_strings);
  const auto chat = ParseTokenize(R"({"messages":[{"role":"user","content":"a"}],"add_generation_prompt":false})");
  ASSERT_TRUE(chat.ok());
  EXPECT_FALSE(std::get<ChatTemplateInput>(chat->prompt).add_generation_prompt);
  EXPECT_FALSE(ParseTokenize("{}").ok());
  EXPECT_FALSE(ParseTokenize(R"({"prompt":["a"]})").ok());
  EXPECT_FALSE(ParseTokenize(R"({"prompt":"a","messages":[{"role":"user","content":"a"}]})").ok());
  EXPECT_FALSE(ParseDetokenize("{}").ok());
  EXPECT_FALSE(ParseDetokenize(R"({"tokens":"a"})").ok());
  EXPECT_FALSE(ParseDetokenize(R"({"tokens":[-1]})").ok());
  EXPECT_THAT(ParseDetokenize(R"({"tokens":[1,2]})")->tokens, ElementsAre(1, 2));
}

}  // namespace
}  // namespace hysparse::openai
