#include "server/stop_matcher.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace hysparse {
namespace {

struct Result {
  std::string text;
  bool stopped = false;
  bool operator==(const Result&) const = default;
};

Result StopAt(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  StopMatcher matcher(std::make_shared<const StopStrings>(stops));
  Result result;
  for (const std::string& piece : pieces) {
    result.text += matcher.Append(piece);
    if (matcher.stopped()) break;
  }
  result.stopped = matcher.stopped();
  if (!result.stopped) result.text += matcher.Finish();
  return result;
}

// The definition: the stop string that is complete first, the longest of several that end there.
Result Definition(const std::vector<std::string>& stops, const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const std::string& stop : stops) {
      if (stop.size() <= end && text.compare(end - stop.size(), stop.size(), stop) == 0)
        longest = std::max(longest, stop.size());
    }
    if (longest > 0) return {text.substr(0, end - longest), true};
  }
  return {text, false};
}

TEST(StopMatcher, MatchesAcrossPieces) {
  EXPECT_EQ(StopAt({"END"}, {"abc E", "N", "D tail"}), (Result{"abc ", true}));
  EXPECT_EQ(StopAt({"END"}, {"abc E", "N", "X"}), (Result{"abc ENX", false}));
  EXPECT_EQ(StopAt({"\n\n"}, {"a\n", "b\n", "\nc"}), (Result{"a\nb", true}));
}

TEST(StopMatcher, HoldsBackExactlyWhatMayBecomeAStop) {
  StopMatcher matcher(std::make_shared<const StopStrings>(std::vector<std::string>{"aab"}));
  EXPECT_EQ(matcher.Append("xa"), "x");
  EXPECT_EQ(matcher.Append("a"), "");
  EXPECT_EQ(matcher.Append("a"), "a");  // "aaa": the last two may still begin "aab"
  EXPECT_EQ(matcher.Append("c"), "aac");
  EXPECT_FALSE(matcher.stopped());
}

TEST(StopMatcher, NothingIsHeldWithoutStops) {
  StopMatcher matcher(std::make_shared<const StopStrings>(std::vector<std::string>{}));
  EXPECT_EQ(matcher.Append("abc"), "abc");
  EXPECT_EQ(matcher.Finish(), "");
}

TEST(StopMatcher, SaysNothingAfterAMatch) {
  StopMatcher matcher(std::make_shared<const StopStrings>(std::vector<std::string>{"x"}));
  EXPECT_EQ(matcher.Append("axb"), "a");
  EXPECT_EQ(matcher.Append("more"), "");
  EXPECT_EQ(matcher.Finish(), "");
}

TEST(StopMatcher, OverlappingStops) {
  EXPECT_EQ(StopAt({"abcd", "bc"}, {"xab", "cd"}), (Result{"xa", true}));  // "bc" is complete first
  EXPECT_EQ(StopAt({"bc", "abc"}, {"xabc"}), (Result{"x", true}));         // both at once: the longest
  EXPECT_EQ(StopAt({"aaaa"}, {"aaa", "baaaa"}), (Result{"aaab", true}));
}

TEST(StopMatcher, AgreesWithTheDefinitionHoweverTheTextIsCut) {
  std::mt19937 random(7);
  const auto word = [&](size_t length) {
    std::string text;
    for (size_t i = 0; i < length; ++i) text += "aab\xC3\xA9"[random() % 5];  // broken characters too: bytes are bytes
    return text;
  };
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::string> stops;
    for (size_t i = 0, n = random() % 4; i < n; ++i) stops.push_back(word(1 + random() % 5));
    const std::string text = word(random() % 24);
    std::vector<std::string> pieces;
    for (size_t at = 0; at < text.size();) {
      const size_t n = 1 + random() % 6;
      pieces.push_back(text.substr(at, n));
      at += n;
    }
    ASSERT_EQ(StopAt(stops, pieces), Definition(stops, text)) << text;
  }
}

}  // namespace
}  // namespace hysparse
