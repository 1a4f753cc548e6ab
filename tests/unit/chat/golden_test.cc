// Every template of tests/chat/templates over every conversation, against what jinja2 made of them (goldens.json).
#include <gtest/gtest.h>

#include <ctime>
#include <string>

#include "engine/base/file.h"
#include "nlohmann/json.hpp"
#include "server/chat/chat_template.h"
#include "tests/unit/chat/chat_testing.h"

namespace hysparse {
namespace {

using Json = nlohmann::ordered_json;

const Json& Goldens() {
  static const Json& goldens = *new Json(Json::parse(*ReadFile(ChatTestFolder() + "/goldens.json")));
  return goldens;
}

class GoldenTest : public testing::TestWithParam<std::string> {};

TEST_P(GoldenTest, RendersAsJinja2) {
  const Json& tokens = Goldens()["tokens"];
  auto chat = ChatTemplate::Parse(*ReadFile(ChatTestFolder() + "/templates/" + GetParam() + ".jinja"),
                                  tokens["bos_token"], tokens["eos_token"], FixedNow);
  ASSERT_TRUE(chat.ok()) << chat.status();
  for (const auto& [name, expected] : Goldens()["rendered"][GetParam()].items()) {
    const Json& conversation = Goldens()["conversations"][name];
    ChatTemplateInput input;
    input.messages = conversation["messages"];
    input.tools = conversation["tools"];
    input.kwargs = conversation["kwargs"];
    input.add_generation_prompt = conversation["add_generation_prompt"];
    const auto segments = (*chat)->Render(input);
    if (expected.is_string()) {
      ASSERT_TRUE(segments.ok()) << name << ": " << segments.status();
      EXPECT_EQ(Joined(*segments), expected.get<std::string>()) << name;
      continue;
    }
    ASSERT_FALSE(segments.ok()) << name << ": " << Joined(*segments);
    EXPECT_EQ(segments.status().code(), absl::StatusCode::kInvalidArgument);
    if (expected["error"].is_string()) {
      EXPECT_EQ(segments.status().message(), expected["error"].get<std::string>()) << name;
    }
  }
}

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const auto& [name, results] : Goldens()["rendered"].items()) names.push_back(name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Templates, GoldenTest, testing::ValuesIn(Names()),
                         [](const auto& info) { return info.param; });

TEST(GoldenTest, CoversEnough) { EXPECT_GE(Names().size(), 40u); }

}  // namespace
}  // namespace hysparse
