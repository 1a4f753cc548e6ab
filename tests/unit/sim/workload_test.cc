// Workload files: what they say, and errors that name the line.
#include "engine/sim/workload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hysparse {
namespace {

using testing::HasSubstr;

std::string Error(const std::string& text) {
  const auto workload = ParseWorkload("w.yaml", text);
  return workload.ok() ? "" : std::string(workload.status().message());
}

TEST(Workload, ReadsYamlAndJson) {
  const auto yaml = ParseWorkload("w", "duration: 10\nload: 0.5\nclasses:\n  - {name: a, prompt: [1, 9], turns: 2}\n");
  ASSERT_TRUE(yaml.ok()) << yaml.status();
  EXPECT_EQ(yaml->classes[0].prompt.most, 9);
  EXPECT_EQ(yaml->load, 0.5);
  const auto json = ParseWorkload(
      "w",
      R"({"duration": 1, "classes": [{"name": "a", "prompt": 5}], "arrivals": [{"at": 2, "class": "a"}, {"at": 1, "class": "a", "count": 3}]})");
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(json->arrivals[0].count, 3);  // by time
}

TEST(Workload, EveryPresetIsValid) {
  for (const char* name : {"chat", "long", "mixed-day", "overload", "pressure"}) {
    EXPECT_TRUE(ReadWorkload(name).ok()) << name;
    EXPECT_THAT(PresetNames(), HasSubstr(name));
  }
  EXPECT_THAT(std::string(ReadWorkload("no-such").status().message()), HasSubstr("mixed-day"));
}

TEST(Workload, ErrorsNameTheLine) {
  const std::string head = "duration: 10\nload: 1\nclasses:\n";
  EXPECT_THAT(Error(head + "  - {name: a, prompt: 1}\n  - {name: b, promt: 2}\n"),
              HasSubstr("w.yaml: line 5: unknown key promt"));
  EXPECT_THAT(Error(head + "  - name: a\n    prompt: 99999999999\n"),
              HasSubstr("line 5: prompt must be a whole number"));
  EXPECT_THAT(Error(head + "  - name: a\n    prompt: [9, 1]\n"), HasSubstr("line 5: prompt: the first"));
  EXPECT_THAT(Error(head + "  - name: a\n    prompt: 1\n    prompt: 2\n"), HasSubstr("line 6: prompt is there twice"));
  EXPECT_THAT(Error(head + "  - {name: a}\n"), HasSubstr("line 4: prompt must be there"));
  EXPECT_THAT(Error(head + "  - {name: a, prompt: 0}\n"), HasSubstr("line 4: prompt"));
  EXPECT_THAT(Error(head + "  - {name: a, prompt: 1, output: 100000, turns: 10000}\n"),
              HasSubstr("line 4: a session of"));
  EXPECT_THAT(Error(head + "  - {name: a, prompt: 1}\n  - {name: a, prompt: 1}\n"), HasSubstr("line 4: two classes"));
  EXPECT_THAT(Error("duration: 1\nload: nan\nclasses: [{name: a, prompt: 1}]\n"), HasSubstr("line 2: load"));
  EXPECT_THAT(Error("duration: 0\nload: 1\nclasses: [{name: a, prompt: 1}]\n"), HasSubstr("line 1: duration"));
  EXPECT_THAT(Error("duration: 1\nload: 1\nrate: 1\nclasses: [{name: a, prompt: 1}]\n"), HasSubstr("give one of"));
  EXPECT_THAT(Error("duration: 1\nload: 1\nclasses: []\n"), HasSubstr("line 3: classes"));
  EXPECT_THAT(Error("duration: 1\nclasses: [{name: a, prompt: 1}]\narrivals:\n  - {at: 1, class: b}\n"),
              HasSubstr("line 4: no class is called b"));
  EXPECT_THAT(Error("duration: 1\nload: [\n"), HasSubstr("w.yaml: line "));
  EXPECT_THAT(Error("just words"), HasSubstr("line 1: a workload must hold"));
  EXPECT_THAT(Error(""), HasSubstr("w.yaml"));
}

TEST(Workload, ASessionIsAFunctionOfSeedClassAndNumber) {
  const Workload workload = *ReadWorkload("mixed-day");
  const SessionPlan one = DrawSession(workload, 0, 5, 1), again = DrawSession(workload, 0, 5, 1);
  EXPECT_EQ(one.Tokens(3000, 1000), again.Tokens(3000, 1000));
  EXPECT_NE(one.Tokens(3000, 1000), DrawSession(workload, 0, 6, 1).Tokens(3000, 1000));
  EXPECT_NE(one.Tokens(3000, 1000), DrawSession(workload, 0, 5, 2).Tokens(3000, 1000));
  for (const int32_t token : one.Tokens(3000, 1000)) ASSERT_TRUE(token >= 0 && token < 1000);
}

}  // namespace
}  // namespace hysparse
