#include "engine/base/json_depth.h"

#include <string>

#include "gtest/gtest.h"

namespace hysparse {
namespace {

TEST(JsonDepthWithin, CountsArraysAndObjectsTogether) {
  EXPECT_TRUE(JsonDepthWithin("1", 0));
  EXPECT_TRUE(JsonDepthWithin(R"([{"a": [1]}, [2]])", 3));
  EXPECT_FALSE(JsonDepthWithin(R"([{"a": [1]}, [2]])", 2));
}

TEST(JsonDepthWithin, IgnoresBracketsInStrings) {
  EXPECT_TRUE(JsonDepthWithin(R"(["[[[{{{", "\"[["])", 1));
  EXPECT_FALSE(JsonDepthWithin(R"(["\\", [[]]])", 2));
}

TEST(JsonDepthWithin, LivesThroughWhatIsNoJson) {
  EXPECT_TRUE(JsonDepthWithin("]]]]\"\\", 1));
  EXPECT_FALSE(JsonDepthWithin(std::string(1 << 20, '['), 64));
}

}  // namespace
}  // namespace hysparse
