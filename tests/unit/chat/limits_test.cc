// Templates that never end, recurse, or eat memory, and input that nests without end: each is an InvalidArgument, soon.
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "engine/base/file.h"
#include "nlohmann/json.hpp"
#include "server/chat/chat_template.h"
#include "server/chat/jinja/template.h"
#include "tests/unit/chat/chat_testing.h"

namespace hysparse {
namespace {

using Json = nlohmann::ordered_json;

absl::StatusOr<std::string> Render(const std::string& source, const Json& variables = Json::object(),
                                   const jinja::Limits& limits = jinja::Limits()) {
  auto parsed = jinja::Template::Parse(source);
  if (!parsed.ok()) return parsed.status();
  auto text = parsed->Render(Json::object(), variables, FixedNow(), limits);
  if (!text.ok()) return text.status();
  return text->str();
}

class BombTest : public testing::TestWithParam<const char*> {};

TEST_P(BombTest, IsRefused) {
  jinja::Limits limits;
  limits.steps = 2'000'000;
  limits.live_bytes = 64u << 20;
  limits.output_bytes = 8u << 20;
  const auto result = Render(GetParam(), {{"s", std::string(100'000, 'a')}}, limits);
  ASSERT_FALSE(result.ok()) << result->substr(0, 200);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument) << result.status();
}

INSTANTIATE_TEST_SUITE_P(
    Bombs, BombTest,
    testing::Values(
        "{{ 'a' * 10 ** 9 }}", "{{ 'a' * 10 ** 30 }}", "{{ [0] * 10 ** 9 }}", "{{ (1, 2) * 10 ** 12 }}",
        "{{ range(10 ** 12) }}", "{% for i in range(10 ** 9) %}{% endfor %}", "{{ 10 ** 10 ** 10 }}", "{{ 2 ** 127 }}",
        "{{ -(2 ** 126) * 4 }}", "{{ 'x'.center(10 ** 9) }}", "{{ 'x'.ljust(10 ** 12) }}", "{{ 'x'.zfill(10 ** 10) }}",
        "{{ '%1000000000d' % 1 }}", "{{ '%.*f' % (10 ** 8, 1.0) }}", "{{ '{:1000000000}'.format(1) }}",
        "{{ 'x' | indent(10 ** 9) }}", "{{ [1] | tojson(indent=10 ** 9) }}", "{{ s | replace('', s) }}",
        "{{ s | replace('a', s) }}", "{{ s.join(s) }}", "{{ s | list | join(s) }}",
        "{{ s | map('replace', 'a', s) | list }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f(x) %}{{ f(x + 1) ~ f(x) }}{% endmacro %}{{ f(0) }}",
        "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
        "{% macro f() %}{% call f() %}{% endcall %}{{ caller() }}{% endmacro %}{{ f() }}",
        "{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
        "{% set l = [1] %}{% for i in range(40) %}{% for x in l %}{% set _ = l.append(x) %}{% endfor %}{% endfor %}",
        "{% set l = [] %}{% set _ = l.append(l) %}{{ l }}", "{% set l = [] %}{% set _ = l.append(l) %}{{ l | tojson }}",
        "{% set l = [] %}{% set _ = l.append(l) %}{% set m = [] %}{% set _ = m.append(m) %}{{ l == m }}",
        "{% set l = [] %}{% set _ = l.append(l) %}{% set m = [] %}{% set _ = m.append(m) %}{{ l < m }}",
        "{% set n = namespace(v='ab') %}{% for i in range(60) %}{% set n.v = n.v + n.v %}{% endfor %}",
        "{% set n = namespace(v=[1]) %}{% for i in range(60) %}{% set n.v = n.v + n.v %}{% endfor %}",
        "{% set n = namespace(v=[1]) %}{% for i in range(5000) %}{% set n.v = [n.v] %}{% endfor %}{{ n.v }}",
        "{% set n = namespace(v=(1,)) %}{% for i in range(5000) %}{% set n.v = (n.v,) %}{% endfor %}{{ {n.v: 1} }}",
        "{% for a in range(1000) %}{% for b in range(1000) %}{% for c in range(1000) %}{{ a }}{% endfor %}{% endfor "
        "%}{% endfor %}",
        "{% for a in range(99999) %}{{ s }}{% endfor %}",
        "{% for a in range(99999) %}{{ s | upper | length }}{% endfor %}",
        "{% for a in range(99999) %}{{ s.find('b') }}{% endfor %}",
        "{% for a in range(99999) %}{% set x = s ~ a %}{% endfor %}",
        "{% for a in range(99999) %}{{ range(99999) | list | length }}{% endfor %}",
        "{% for a in range(99999) %}{{ range(99999) | sort | length }}{% endfor %}",
        "{% for a in range(99999) %}{{ namespace(a=s * 9) }}{% endfor %}", "{{ 1 | batch }}",
        "{{ [1] | batch(10 ** 9, 0) | list }}", "{{ [1] | slice(10 ** 9) | list }}", "{{ strftime_now('%c' * 10000) }}",
        "{{ strftime_now('%9999999d') }}"));

TEST(LimitsTest, DeepInputIsRefused) {
  Json deep = 1;
  for (int i = 0; i < 5000; ++i) deep = Json::array({std::move(deep)});
  EXPECT_FALSE(Render("{{ x }}", {{"x", deep}}).ok());
}

TEST(LimitsTest, DeepSourceIsRefused) {
  auto repeat = [](const std::string& text) {
    std::string all;
    for (int i = 0; i < 20'000; ++i) all += text;
    return all;
  };
  for (const char* open :
       {"(", "[", "{1:", "not ", "-", "a[", "f(", "a if ", "a|b(", "x is in [", "'{' ~ (", "a == ("}) {
    EXPECT_FALSE(Render("{{ " + repeat(open) + " }}").ok()) << open;
  }
  for (const char* chain : {".a", "[0]", "()", "|trim", " + 1", " ~ 1", " and 1", " or a", " * 2", " ** 1", " if a"}) {
    const auto result =
        Render("{{ a" + repeat(chain) + " }}");  // a long `~` is one flat node, and may be refused or not
    if (std::string(chain) != " ~ 1") {
      EXPECT_FALSE(result.ok()) << chain;
    }
  }
  for (const char* block : {"{% if a %}", "{% for a in b %}", "{% filter trim %}", "{% macro a() %}", "{% set a %}",
                            "{% with %}", "{% call a() %}", "{% generation %}"}) {
    EXPECT_FALSE(Render(repeat(block)).ok()) << block;
  }
}

// A conversation of a million tokens renders within the caps.
TEST(LimitsTest, LongConversationFits) {
  Json messages = Json::array();
  for (int i = 0; i < 4000; ++i) {
    messages.push_back({{"role", i % 2 ? "assistant" : "user"}, {"content", std::string(1000, 'x') + "\n"}});
  }
  const auto source = ReadFile(ChatTestFolder() + "/templates/qwen_tools.jinja");
  const auto result = Render(*source, {{"messages", messages}, {"tools", nullptr}});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_GT(result->size(), 4'000'000u);
}

// Templates cut, doubled and scrambled at random: whatever comes out, nothing crashes.
TEST(LimitsTest, MutatedTemplatesDoNotCrash) {
  const Json goldens = Json::parse(*ReadFile(ChatTestFolder() + "/goldens.json"));
  const Json& conversation = goldens["conversations"]["tools"];
  const Json variables = {{"messages", conversation["messages"]}, {"tools", conversation["tools"]}};
  jinja::Limits limits;
  limits.steps = 200'000;
  std::mt19937 random(7);
  const std::string pieces[] = {
      "{{",       "}}",    "{%",   "%}",     "{#",           "#}",          "-",         "+",    "(",
      ")",        "[",     "]",    "'",      "\"",           "|",           ".",         ",",    " in ",
      " is ",     " not ", " if ", " else ", "{% endfor %}", "{% endif %}", "{% raw %}", "\\",   "loop",
      "messages", "\xff",  "\xc3", "é",      "\n",           "1e9",         "0x",        " ** ", " // ",
      "*",        "="};
  int mutants = 0, rendered = 0;
  for (const auto& [name, results] : goldens["rendered"].items()) {
    const std::string source = *ReadFile(ChatTestFolder() + "/templates/" + name + ".jinja");
    for (int i = 0; i < 30; ++i, ++mutants) {
      std::string mutant = source;
      for (int edits = 1 + static_cast<int>(random() % 4); edits > 0; --edits) {
        const size_t at = random() % (mutant.size() + 1);
        const size_t length = random() % 12;
        if (random() % 3 == 0) {
          mutant.erase(at, length);
        } else if (random() % 2 == 0) {
          mutant.insert(at, mutant.substr(random() % (mutant.size() + 1), length));
        } else {
          mutant.insert(at, pieces[random() % std::size(pieces)]);
        }
      }
      rendered += Render(mutant, variables, limits).ok();
    }
  }
  EXPECT_GE(mutants, 1000);
  EXPECT_GT(rendered, 0);
}

}  // namespace
}  // namespace hysparse
