#include "engine/text/regex.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "engine/text/regex_syntax.h"

namespace hysparse {
namespace {

// The matches of `pattern` in `text`, in brackets.
std::string Mark(std::string_view pattern, std::string_view text) {
  const auto regex = Regex::Compile(pattern);
  if (!regex.ok()) return std::string(regex.status().message());
  std::vector<Match> parts;
  const absl::Status status = (*regex)->Partition(text, parts);
  if (!status.ok()) return std::string(status.message());
  std::string marked;
  for (const Match& part : parts) {
    const std::string piece(text.substr(part.begin, part.end - part.begin));
    marked += part.is_match ? "[" + piece + "]" : piece;
  }
  return marked;
}

std::string Error(std::string_view pattern) {
  const auto regex = Regex::Compile(pattern);
  return regex.ok() ? "compiled" : std::string(regex.status().message());
}

TEST(Regex, PartitionCoversTheText) {
  EXPECT_EQ(Mark("b+", "abbcb"), "a[bb]c[b]");
  EXPECT_EQ(Mark("x", "abc"), "abc");
  EXPECT_EQ(Mark("x", ""), "");
  EXPECT_EQ(Mark("b*", "abc"), "[]a[b]c[]");  // no empty match right behind a match
  EXPECT_EQ(Mark("$", "a\nb"), "a[]\nb[]");
  EXPECT_EQ(Mark("^", "é\nb"), "[]é\n[]b");
}

TEST(Regex, WhiteSpaceIsOniguruma) {
  EXPECT_EQ(Mark(R"(\s+)", "a\u180E\u3000\u0085b"), "a\u180E[\u3000\u0085]b");
  EXPECT_EQ(Mark(R"([\S]+)", "a\u180E b"), "[a\u180E] [b]");
  EXPECT_EQ(Mark(R"([^\S\n]+)", "a \t\nb"), "a[ \t]\nb");
  EXPECT_EQ(Mark(R"([\s\S]+)", "a \n"), "[a \n]");
}

TEST(Regex, WordsHaveMarksConnectorsAndSuperscripts) {
  EXPECT_EQ(Mark(R"(\w+)", "e\u0301_\u203F²-"), "[e\u0301_\u203F²]-");
  EXPECT_EQ(Mark(R"(\W)", "a\u0301!"), "a\u0301[!]");
  EXPECT_EQ(Mark(R"([\W\d]+)", "a1!b"), "a[1!]b");
  EXPECT_EQ(Mark(R"(\b)", "a\u0301 b"), "[]a\u0301[] []b[]");
  EXPECT_EQ(Mark(R"(\B.)", "ab"), "a[b]");
}

TEST(Regex, EscapesOfTheOtherDialect) {
  EXPECT_EQ(Mark(R"(\h+)", "xyz0aF"), "xyz[0aF]");
  EXPECT_EQ(Mark(R"(\H+)", "xyz0aF"), "[xyz]0aF");
  EXPECT_EQ(Mark(R"(\v)", "a\v\n"), "a[\v]\n");
  EXPECT_EQ(Mark(R"([\x41-\x{43}\u00e9]+)", "ABCDé"), "[ABC]D[é]");
  EXPECT_EQ(Mark(R"(a{,2}b)", "aaab"), "a[aab]");
  EXPECT_EQ(Mark(R"(x{,}|{y)", "{y"), "[{y]");
  EXPECT_EQ(Mark(R"(\p{N}{1,3}+)", "12345"), "[12345]");  // a repeated group, not a possessive one
  EXPECT_EQ(Mark(R"((?:ab){1,2}+)", "ababab"), "[ababab]");
  EXPECT_EQ(Mark(R"([ab]{2}+)", "ababa"), "[abab]a");
  EXPECT_EQ(Mark(R"(a++b|a)", "aab"), "[aab]");
  EXPECT_EQ(Mark(R"((?m:<.>))", "<\n>"), "[<\n>]");
  EXPECT_EQ(Mark(R"(<.>)", "<\n><\r>"), "<\n>[<\r>]");
  EXPECT_EQ(Mark(R"((?i)straSSE)", "STRASSE"), "[STRASSE]");
  EXPECT_EQ(Mark(R"((a)(b))", "ab"), "[ab]");
}

TEST(Regex, PropertiesAreUnicode16) {
  EXPECT_EQ(Mark(R"(\p{L})", "\U00010D50\U0002EBF0"), "[\U00010D50][\U0002EBF0]");
  EXPECT_EQ(Mark(R"(\p{N}+)", "5\U00010D40"), "[5\U00010D40]");
  EXPECT_EQ(Mark(R"(\p{^L}|\P{^Lu})", "aA1"), "a[A][1]");
  EXPECT_EQ(Mark(R"([\P{L}]+)", "a1\U00010D50-"), "a[1]\U00010D50[-]");
  EXPECT_EQ(Mark(R"([^\P{L}a]+)", "ab1c"), "a[b]1[c]");
  EXPECT_EQ(Mark(R"(\p{Han}+)", "一、\U00031350"), "[一]、[\U00031350]");  // the script, not its extensions
  EXPECT_EQ(Mark(R"(\p{C}|\p{Cn})", "a\u0378\U00010D40\u0000x"), "a[\u0378]\U00010D40");
}

TEST(Regex, SaysWhatItDoesNotSupport) {
  for (const std::string_view pattern : {R"((?<name>a))", R"(\K)", R"(\1)", "[a&&b]", "[a[b]]", "[[:alpha:]]", "a(?i)b",
                                         "(?s:.)", R"(\p{Emoji})", R"(\R)", "a{2}?", "[]a]", R"(\X)", R"((?~a))"}) {
    EXPECT_NE(Error(pattern).find("not supported"), std::string::npos) << pattern << ": " << Error(pattern);
  }
  for (const std::string_view pattern :
       {"(a", "a)", "[a", "\\", R"(\p{L)", R"(\x{}})", R"(\u12)", "*", R"(\x{110000})"}) {
    EXPECT_NE(Error(pattern).find("the pattern"), std::string::npos) << pattern << ": " << Error(pattern);
    EXPECT_EQ(Error(pattern).find("not supported"), std::string::npos) << pattern << ": " << Error(pattern);
  }
  EXPECT_NE(Error("\xFF").find("UTF-8"), std::string::npos);
}

TEST(Regex, RunawayMatchIsAnErrorNotAHang) {
  const auto regex = Regex::Compile("(?:a|aa)+$");
  ASSERT_TRUE(regex.ok());
  std::vector<Match> parts;
  const absl::Status status = (*regex)->Partition(std::string(200, 'a') + "!", parts);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
}

TEST(Regex, LongRunsThatBacktrackOutgrowTheJitStack) {
  const auto regex = Regex::Compile(R"((?:[ab]|\s)*[\r\n]+|\s+(?!\S)|.)");
  ASSERT_TRUE(regex.ok());
  std::vector<Match> parts;
  const absl::Status status = (*regex)->Partition(std::string(100'000, 'a') + "\n", parts);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(parts.size(), 1u);
}

TEST(Regex, LiteralsHaveNoSyntax) {
  const auto regex = Regex::CompileLiteral("a.*");
  ASSERT_TRUE(regex.ok());
  std::vector<Match> parts;
  ASSERT_TRUE((*regex)->Partition("abc a.*", parts).ok());
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_EQ(parts[1].begin, 4u);
}

}  // namespace
}  // namespace hysparse
