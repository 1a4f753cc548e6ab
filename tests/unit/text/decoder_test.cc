// Decode and the Detokenizer, which must say the same.
#include <gtest/gtest.h>

#include "engine/text/detokenizer.h"
#include "engine/text/utf8.h"
#include "tests/unit/text/test_tokenizer.h"

namespace hysparse {
namespace {

using nlohmann::json;

std::vector<std::string> Pieces(const std::shared_ptr<const Tokenizer>& tokenizer, const std::vector<int32_t>& ids,
                                bool skip) {
  Detokenizer detokenizer(tokenizer, skip);
  std::vector<std::string> pieces;
  std::string joined;
  for (const int32_t id : ids) pieces.push_back(detokenizer.Append(id));
  pieces.push_back(detokenizer.Finish());
  for (const std::string& piece : pieces) {
    EXPECT_TRUE(IsValidUtf8(piece));
    joined += piece;
  }
  EXPECT_EQ(joined, tokenizer->Decode(ids, skip));
  return pieces;
}

std::string Decoded(const json& decoder, const std::vector<std::string>& tokens) {
  json document = SentencePieceDocument({}, {}, false);
  document["decoder"] = decoder;
  document["model"]["vocab"] = json::object();
  document["model"].erase("unk_token");
  std::vector<int32_t> ids;
  for (const std::string& token : tokens) {
    if (!document["model"]["vocab"].contains(token)) {
      document["model"]["vocab"][token] = document["model"]["vocab"].size();
    }
    ids.push_back(document["model"]["vocab"][token].get<int>());
  }
  const auto tokenizer = ParseDocument(document);
  if (!tokenizer.ok()) return std::string(tokenizer.status().message());
  std::string text;
  for (const std::string& piece : Pieces(*tokenizer, ids, false)) text += piece;
  return text;
}

TEST(Detokenizer, ByteLevelHoldsIncompleteCharacters) {
  const auto tokenizer = MustParse(ByteLevelDocument());
  EXPECT_EQ(Pieces(tokenizer, {'a', 0xF0, 0x9F, 0x98, 0x80, 'b'}, false),
            (std::vector<std::string>{"a", "", "", "", "😀", "b", ""}));
  EXPECT_EQ(Pieces(tokenizer, {0xF0, 0x9F, 'b', 0xC3}, false),
            (std::vector<std::string>{"", "", "\uFFFDb", "", "\uFFFD"}));
  EXPECT_EQ(Pieces(tokenizer, {0x80, 0xFF}, false), (std::vector<std::string>{"\uFFFD", "\uFFFD", ""}));
  EXPECT_EQ(Pieces(tokenizer, {}, false), (std::vector<std::string>{""}));
}

TEST(Detokenizer, UnknownIdsAreNothing) {
  const auto tokenizer = MustParse(ByteLevelDocument());
  EXPECT_EQ(Pieces(tokenizer, {-1, 'a', 256, 1 << 30, INT32_MIN, INT32_MAX, 'b'}, true),
            (std::vector<std::string>{"", "a", "", "", "", "", "b", ""}));
}

TEST(Detokenizer, SpecialTokensAreSkippedOnRequest) {
  json document = ByteLevelDocument();
  AddToken(document, "<|end|>", 256, true);
  AddToken(document, "<think>", 257, false);
  const auto tokenizer = MustParse(document);
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{'a', 256, 257}, true), "a<think>");
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{'a', 256, 257}, false), "a<|end|><think>");
  Pieces(tokenizer, {0xC3, 256, 0xA9}, true);
  Pieces(tokenizer, {0xC3, 256, 0xA9}, false);
}

const json kLlama2 =
    json::parse(R"({"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},
    {"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]})");

TEST(Decoder, SentencePieceStripsOneSpaceAtTheStart) {
  EXPECT_EQ(Decoded(kLlama2, {"▁Hello", "▁world"}), "Hello world");
  EXPECT_EQ(Decoded(kLlama2, {"▁", "▁▁a"}), "  a");
  EXPECT_EQ(Decoded(kLlama2, {"a", "▁"}), "a ");
}

TEST(Decoder, ByteFallbackDecidesRunsAsAWhole) {
  EXPECT_EQ(Decoded(kLlama2, {"x", "<0xE4>", "<0xB8>", "<0xAD>", "y"}), "x中y");
  EXPECT_EQ(Decoded(kLlama2, {"<0xE4>", "<0xB8>", "<0xAD>", "<0xE4>", "y"}), "\uFFFD\uFFFD\uFFFD\uFFFDy");
  EXPECT_EQ(Decoded(kLlama2, {"<0xE4>", "<0xB8>"}), "\uFFFD\uFFFD");
  EXPECT_EQ(Decoded(kLlama2, {"<0x20>", "a"}), "a");
  EXPECT_EQ(Decoded(kLlama2, {"<0xZZ>", "<0x4>", "<0x+A>"}), "<0xZZ><0x4>\n");
}

TEST(Decoder, Steps) {
  EXPECT_EQ(Decoded(nullptr, {"a", "", "b"}), "a  b");
  EXPECT_EQ(Decoded(json::parse(R"({"type":"Metaspace","replacement":"▁","prepend_scheme":"always"})"), {"▁a▁b", "▁c"}),
            "ab c");
  EXPECT_EQ(Decoded(json::parse(R"({"type":"Metaspace","replacement":"▁","prepend_scheme":"never"})"), {"▁a", "▁b"}),
            " a b");
  EXPECT_EQ(Decoded(json::parse(R"({"type":"Strip","content":"_","start":1,"stop":2})"), {"__a___", "___", "b_c", "_"}),
            "_a_b_c");
  EXPECT_EQ(Decoded(json::parse(R"({"type":"Replace","pattern":{"Regex":"[ab]+"},"content":"x"})"), {"cab", "ab"}),
            "cxx");
}

TEST(Decoder, ReplaceAfterFuseSeesAcrossTokens) {
  const json decoder = json::parse(R"({"type":"Sequence","decoders":[{"type":"Fuse"},
      {"type":"Replace","pattern":{"String":"aab"},"content":"-"}]})");
  EXPECT_EQ(Decoded(decoder, {"a", "a", "b", "c"}), "-c");
  EXPECT_EQ(Decoded(decoder, {"aa", "ab"}), "a-");
  EXPECT_EQ(Decoded(decoder, {"a", "a", "a"}), "aaa");
  const std::string refused = Decoded(
      json::parse(
          R"({"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"Replace","pattern":{"Regex":"a"},"content":""}]})"),
      {"a"});
  EXPECT_NE(refused.find("decoder.decoders[1]: a regex after a step that fuses"), std::string::npos) << refused;
}

TEST(Decoder, RefusesOthersByName) {
  for (const char* type : {"WordPiece", "CTC", "BPEDecoder", "Nonsense"}) {
    EXPECT_EQ(Decoded({{"type", type}}, {"a"}),
              std::string("tokenizer.json: decoder: a decoder of type '") + type + "' is not supported");
  }
}

TEST(TokenBytes, AreWhatATokenStandsFor) {
  const auto byte_level = MustParse(ByteLevelDocument({"Ġ a"}));
  EXPECT_EQ(byte_level->TokenBytes(0xC3), "\xC3");
  EXPECT_EQ(byte_level->TokenBytes(256), " a");
  EXPECT_EQ(byte_level->TokenBytes(257), "");
  json document = SentencePieceDocument({"▁a"}, {}, true);
  document["decoder"] = kLlama2;
  const auto sentence_piece = MustParse(document);
  EXPECT_EQ(sentence_piece->TokenBytes(sentence_piece->TokenId("<0xC3>")), "\xC3");
  EXPECT_EQ(sentence_piece->TokenBytes(sentence_piece->TokenId("▁a")), " a");
  EXPECT_EQ(sentence_piece->TokenBytes(-1), "");
}

}  // namespace
}  // namespace hysparse
