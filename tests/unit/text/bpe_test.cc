#include "engine/text/bpe.h"

#include <gtest/gtest.h>

#include "tests/unit/text/test_tokenizer.h"

namespace hysparse {
namespace {

using nlohmann::json;

std::unique_ptr<const Bpe> Model(const json& model) {
  auto bpe = Bpe::Parse(JsonView(model, "model"));
  if (!bpe.ok()) ADD_FAILURE() << bpe.status();
  return bpe.ok() ? std::move(*bpe) : nullptr;
}

std::vector<int32_t> Ids(const Bpe& bpe, std::string_view word) {
  BpeScratch scratch;
  std::vector<int32_t> first, second;
  bpe.Encode(word, false, scratch, first);
  bpe.Encode(word, false, scratch, second);  // from the cache when the word is short
  EXPECT_EQ(first, second);
  return first;
}

json Vocabulary(const std::vector<std::string>& tokens) {
  json vocabulary = json::object();
  for (size_t i = 0; i < tokens.size(); ++i) vocabulary[tokens[i]] = i;
  return vocabulary;
}

TEST(Bpe, MergesTheLowestRankFirstAndOfEqualOnesTheLeftmost) {
  const auto bpe = Model({{"vocab", Vocabulary({"a", "b", "c", "bc", "ab", "aa", "aaa"})},
                          {"merges", std::vector<std::string>{"b c", "a b", "a a", "aa a"}}});
  EXPECT_EQ(Ids(*bpe, "abc"), (std::vector<int32_t>{0, 3}));
  EXPECT_EQ(Ids(*bpe, "aaaa"), (std::vector<int32_t>{5, 5}));
  EXPECT_EQ(Ids(*bpe, "aaa"), (std::vector<int32_t>{6}));
  EXPECT_TRUE(Ids(*bpe, "").empty());
}

TEST(Bpe, MergesMayBePairs) {
  const auto bpe = Model({{"vocab", Vocabulary({"a", " ", "a "})}, {"merges", json::array({json::array({"a", " "})})}});
  EXPECT_EQ(Ids(*bpe, "a "), (std::vector<int32_t>{2}));
}

TEST(Bpe, IgnoreMergesTakesWholeWords) {
  json model = {{"vocab", Vocabulary({"a", "b", "ab"})}, {"merges", json::array()}};
  EXPECT_EQ(Ids(*Model(model), "ab"), (std::vector<int32_t>{0, 1}));
  model["ignore_merges"] = true;
  EXPECT_EQ(Ids(*Model(model), "ab"), (std::vector<int32_t>{2}));
}

TEST(Bpe, UnknownCharacters) {
  json model = {{"vocab", Vocabulary({"?", "a", "<0xC3>", "<0xA9>"})}, {"merges", json::array()}};
  EXPECT_EQ(Ids(*Model(model), "xay"), (std::vector<int32_t>{1}));  // nothing stands for them
  model["unk_token"] = "?";
  EXPECT_EQ(Ids(*Model(model), "xyaz"), (std::vector<int32_t>{0, 0, 1, 0}));
  model["fuse_unk"] = true;
  EXPECT_EQ(Ids(*Model(model), "xyaz"), (std::vector<int32_t>{0, 1, 0}));
  model["byte_fallback"] = true;
  EXPECT_EQ(Ids(*Model(model), "éx"), (std::vector<int32_t>{2, 3, 0}));
  // As in the library, a pending unknown token comes after the bytes that follow it.
  EXPECT_EQ(Ids(*Model(model), "xé"), (std::vector<int32_t>{2, 3, 0}));
}

TEST(Bpe, PrefixAndSuffixOfSubwords) {
  const auto prefixed = Model({{"vocab", Vocabulary({"a", "##b", "ab"})},
                               {"merges", std::vector<std::string>{"a ##b"}},
                               {"continuing_subword_prefix", "##"}});
  EXPECT_EQ(Ids(*prefixed, "ab"), (std::vector<int32_t>{2}));
  const auto suffixed = Model({{"vocab", Vocabulary({"a", "b</w>", "ab</w>"})},
                               {"merges", std::vector<std::string>{"a b</w>"}},
                               {"end_of_word_suffix", "</w>"}});
  EXPECT_EQ(Ids(*suffixed, "ab"), (std::vector<int32_t>{2}));
}

TEST(Bpe, CacheKeepsWordsApart) {
  const json document = ByteLevelDocument({"a b", "ab c"});
  const auto bpe = Model(document["model"]);
  BpeScratch scratch;
  // Many more words than the cache has slots, each twice.
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 40'000; ++i) {
      const std::string word = "abc" + std::to_string(i);
      std::vector<int32_t> ids;
      bpe->Encode(word, true, scratch, ids);
      ASSERT_EQ(ids.size(), word.size() - 2) << word;
      ASSERT_EQ(ids[0], 257);
      ASSERT_EQ(ids.back(), word.back());
    }
  }
}

TEST(Bpe, AMegabyteInOneWord) {
  const auto bpe = Model(ByteLevelDocument({"a a", "aa aa", "aaaa aaaa"})["model"]);
  BpeScratch scratch;
  std::vector<int32_t> ids;
  bpe->Encode(std::string(1 << 20, 'a'), true, scratch, ids);
  EXPECT_EQ(ids.size(), size_t{1} << 17);
}

}  // namespace
}  // namespace hysparse
