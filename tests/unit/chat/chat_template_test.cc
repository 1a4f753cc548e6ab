// Loading from a model's folder, errors, continue_final_message, and what the goldens cannot show.
#include "server/chat/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/unit/chat/chat_testing.h"

namespace hysparse {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

class LoadTest : public testing::Test {
 protected:
  LoadTest()
      : folder_(testing::TempDir() + "chat_template_" + testing::UnitTest::GetInstance()->current_test_info()->name()) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~LoadTest() override { std::filesystem::remove_all(folder_); }
  void Write(const std::string& name, const std::string& text) { std::ofstream(folder_ + "/" + name) << text; }
  std::string Prompt(ChatTemplateInput input = {}) {
    auto chat = ChatTemplate::Load(folder_);
    if (!chat.ok()) return "load: " + std::string(chat.status().message());
    auto segments = (*chat)->Render(input);
    return segments.ok() ? Joined(*segments) : "render: " + std::string(segments.status().message());
  }

  const std::string folder_;
};

TEST_F(LoadTest, NothingThere) { EXPECT_EQ(ChatTemplate::Load(folder_).status().code(), absl::StatusCode::kNotFound); }

TEST_F(LoadTest, ConfigWithoutTemplate) {
  Write("tokenizer_config.json", R"({"bos_token": "<s>"})");
  EXPECT_EQ(ChatTemplate::Load(folder_).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(LoadTest, StringWithTokens) {
  Write("tokenizer_config.json",
        R"({"chat_template": "{{ bos_token }}|{{ eos_token }}|{{ pad_token }}|{{ unk_token is defined }}",
            "bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}, "pad_token": null})");
  EXPECT_EQ(Prompt(), "<s>|</s>||False");
}

TEST_F(LoadTest, SpecialTokensMap) {
  Write("tokenizer_config.json", R"({"chat_template": "{{ bos_token }}{{ eos_token }}", "eos_token": "</new>"})");
  Write("special_tokens_map.json", R"({"bos_token": {"content": "<map>"}, "eos_token": "</old>"})");
  EXPECT_EQ(Prompt(), "<map></new>");
}

TEST_F(LoadTest, JinjaFileWins) {
  Write("tokenizer_config.json", R"({"chat_template": "config", "bos_token": "<s>"})");
  Write("chat_template.jinja", "{{ bos_token }}file\n");
  EXPECT_EQ(Prompt(), "<s>file");
}

TEST_F(LoadTest, NamedTemplates) {
  Write("tokenizer_config.json", R"({"chat_template": [{"name": "default", "template": "plain"},
      {"name": "tool_use", "template": "with {{ tools | length }}"}, {"name": "rag", "template": "{% broken"}]})");
  EXPECT_EQ(Prompt(), "plain");
  ChatTemplateInput input;
  input.tools = Json::array({1, 2});
  EXPECT_EQ(Prompt(input), "with 2");
}

TEST_F(LoadTest, NoDefault) {
  Write("tokenizer_config.json", R"({"chat_template": [{"name": "rag", "template": "x"}]})");
  EXPECT_THAT(Prompt(), HasSubstr("default"));
}

TEST_F(LoadTest, BrokenFilesAreNamed) {
  Write("tokenizer_config.json", R"({"chat_template": )");
  EXPECT_THAT(Prompt(), HasSubstr("tokenizer_config.json"));
  Write("tokenizer_config.json", R"({"chat_template": {"name": 1}})");
  EXPECT_THAT(Prompt(), HasSubstr("tokenizer_config.json"));
  Write("tokenizer_config.json", R"({"chat_template": [{"name": "default"}]})");
  EXPECT_THAT(Prompt(), HasSubstr("tokenizer_config.json"));
  Write("chat_template.jinja", "a\nb\n{% if x %}\n{{ 1 + }}\n{% endif %}");
  EXPECT_THAT(Prompt(), testing::AllOf(HasSubstr("load: "), HasSubstr("chat_template.jinja: line 4: ")));
}

absl::Status ParseError(const std::string& source) { return ChatTemplate::Parse(source, "", "").status(); }

TEST(ParseTest, ErrorsNameTheLine) {
  const std::pair<const char*, const char*> cases[] = {
      {"\n{{ 'x' | nope }}", "line 2: No filter named 'nope'"},
      {"{{ 1 is nope }}", "line 1: No test named 'nope'"},
      {"{% for x in y %}\n\n", "line 2: unexpected end of template"},
      {"a\n{% frobnicate %}", "line 2: Encountered unknown tag 'frobnicate'"},
      {"{% include 'x' %}", "line 1: 'include' would read another template"},
      {"{% break %}", "line 1: 'break' outside loop"},
      {"{{ (1] }}", "line 1: unexpected ']', expected ')'"},
      {"{# never closed", "line 1: Missing end of comment tag"},
      {"{% raw %} {{", "line 1: Missing end of raw directive"},
      {"{{ 'open }}", "line 1: a string has no end"},
      {"{{ x", "line 1: unexpected end of template"},
      {"{% set 1 = 2 %}", "line 1: can't assign"},
      {"{% set x.y.z = 2 %}", "line 1: "},
      {"caf\xe9 {{ x }}", "the template is not valid UTF-8"},
      {"{{ x! }}", "line 1: unexpected char '!'"},
  };
  for (const auto& [source, message] : cases) {
    EXPECT_EQ(ParseError(source).code(), absl::StatusCode::kInvalidArgument) << source;
    EXPECT_THAT(std::string(ParseError(source).message()), HasSubstr(message)) << source;
  }
}

ChatTemplateInput Messages(Json messages) {
  ChatTemplateInput input;
  input.messages = std::move(messages);
  return input;
}

std::string RenderOnce(const std::string& source, const ChatTemplateInput& input) {
  auto segments = (*ChatTemplate::Parse(source, "<s>", "</s>", FixedNow))->Render(input);
  return segments.ok() ? Joined(*segments) : "error: " + std::string(segments.status().message());
}

TEST(RenderTest, RaisedMessageIsTheError) {
  EXPECT_EQ(RenderOnce("{{ raise_exception('roles must alternate: ' ~ messages[0].role) }}",
                       Messages(Json::array({{{"role", "user"}}}))),
            "error: roles must alternate: user");
}

TEST(RenderTest, UndefinedNamesItself) {
  EXPECT_EQ(RenderOnce("{{ nope.x }}", {}), "error: 'nope' is undefined");
  EXPECT_EQ(RenderOnce("{{ messages[0].a.b }}", Messages(Json::array({Json::object()}))),
            "error: 'dict object' has no attribute 'a'");
}

TEST(RenderTest, KwargsCannotReplaceWhatTheServerSets) {
  ChatTemplateInput input = Messages(Json::array());
  input.kwargs = {{"bos_token", "evil"}, {"messages", "evil"}, {"add_generation_prompt", "evil"}, {"mine", "ok"}};
  EXPECT_EQ(RenderOnce("{{ bos_token }}{{ messages }}{{ add_generation_prompt }}{{ mine }}", input), "<s>[]Trueok");
}

TEST(RenderTest, RendersAreIndependent) {
  auto chat = *ChatTemplate::Parse("{% set _ = messages.append(1) %}{{ messages | length }}", "", "");
  const ChatTemplateInput input = Messages(Json::array({1}));
  EXPECT_EQ(Joined(*chat->Render(input)), "2");
  EXPECT_EQ(Joined(*chat->Render(input)), "2");
}

constexpr char kTrimming[] = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</>\n{% endfor %}";
constexpr char kKeeping[] = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>\n{% endfor %}";

TEST(ContinueTest, EndsWithTheFinalMessage) {
  ChatTemplateInput input =
      Messages(Json::array({{{"role", "user"}, {"content", "Hi"}}, {{"role", "assistant"}, {"content", "Sure, "}}}));
  input.continue_final_message = true;
  EXPECT_THAT(RenderOnce(kKeeping, input), HasSubstr("error: "));  // with add_generation_prompt
  input.add_generation_prompt = false;
  EXPECT_EQ(RenderOnce(kKeeping, input), "<user>Hi</>\n<assistant>Sure, ");
  EXPECT_EQ(RenderOnce(kTrimming, input), "<user>Hi</>\n<assistant>Sure,");
  input.messages[1]["content"] = Json::array({{{"type", "text"}, {"text", "part"}}, {{"type", "image"}}});
  EXPECT_EQ(RenderOnce("{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}", input),
            "part");
}

TEST(ContinueTest, WhatCannotContinueIsAnError) {
  ChatTemplateInput input;
  input.continue_final_message = true;
  input.add_generation_prompt = false;
  EXPECT_THAT(RenderOnce(kKeeping, input), HasSubstr("error: "));
  for (const Json& content : {Json(nullptr), Json::array(), Json(3)}) {
    input.messages = Json::array({{{"role", "assistant"}, {"content", content}}});
    EXPECT_THAT(RenderOnce(kKeeping, input), HasSubstr("error: continue_final_message")) << content;
  }
  input.messages = Json::array({{{"role", "assistant"}, {"content", "gone"}}});
  EXPECT_THAT(RenderOnce("{{ messages | length }}", input), HasSubstr("does not appear"));
}

}  // namespace
}  // namespace hysparse
