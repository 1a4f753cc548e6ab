// Hashes of a prompt's pages: chained, keyed and salted.
#include "engine/kv/prefix_hash.h"

#include <gtest/gtest.h>

#include <array>
#include <set>

#include "tests/unit/engine/test_engine.h"

namespace hysparse {
namespace {

TEST(PrefixHash, AHashCoversAllTokensBeforeIt) {
  const PrefixHash hash(8, 77);
  const CacheSalt salt = hash.Salt("a");
  const std::vector<int32_t> tokens = TestPrompt(47);
  const std::vector<uint64_t> pages = hash.Pages(salt, tokens);
  ASSERT_EQ(pages.size(), 5u) << "whole pages only";
  for (size_t changed = 0; changed < 40; ++changed) {
    std::vector<int32_t> other = tokens;
    other[changed] ^= 1;
    const std::vector<uint64_t> differ = hash.Pages(salt, other);
    for (size_t page = 0; page < 5; ++page) EXPECT_EQ(differ[page] == pages[page], page < changed / 8) << changed;
  }
  EXPECT_EQ(hash.Extend(pages[0], std::span(tokens).subspan(8, 8)), pages[1]);
}

TEST(PrefixHash, KeysAndSaltsSeparate) {
  const PrefixHash a(8, 77), b(8, 78);
  EXPECT_NE(a.Pages(a.Salt(""), TestPrompt(8)), b.Pages(b.Salt(""), TestPrompt(8)));
  std::set<std::pair<uint64_t, uint64_t>> salts;
  for (const char* text : {"", "a", "b", "aa", "ab", "ba"}) salts.insert({a.Salt(text).seed, a.Salt(text).tag});
  EXPECT_EQ(salts.size(), 6u);
  EXPECT_NE(a.Pages(a.Salt("a"), TestPrompt(8)), a.Pages(a.Salt("b"), TestPrompt(8)));
}

TEST(PrefixHash, AMillionPagesOfFewTokensDoNotCollide) {
  const PrefixHash hash(4, 5);
  std::set<uint64_t> seen;
  for (int32_t i = 0; i < 1000000; ++i) {
    seen.insert(hash.Extend(1, std::array<int32_t, 4>{i % 100, i / 100 % 100, i / 10000, 7}));
  }
  EXPECT_EQ(seen.size(), 1000000u);
}

TEST(PrefixHash, WithoutPagesThereIsNothingToHash) { EXPECT_TRUE(PrefixHash(0, 1).Pages({}, TestPrompt(9)).empty()); }

}  // namespace
}  // namespace hysparse
