// The whole tokenizer: added tokens, segments, broken input, concurrency, adversarial text.
#include "engine/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "engine/text/detokenizer.h"
#include "tests/unit/text/test_tokenizer.h"

namespace hysparse {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

std::string SpellSegments(const Tokenizer& tokenizer, const std::vector<TextSegment>& segments) {
  const auto ids = tokenizer.EncodeSegments(segments);
  if (!ids.ok()) return std::string(ids.status().ToString());
  std::string spelt;
  for (const int32_t id : *ids) spelt += (spelt.empty() ? "" : "|") + tokenizer.TokenText(id);
  return spelt;
}

TEST(AddedTokens, LeftmostLongest) {
  json document = ByteLevelDocument();
  AddToken(document, "<a", 256, false);
  AddToken(document, "<a>", 257, true);
  AddToken(document, "a>b", 258, true);
  EXPECT_EQ(Spell(*MustParse(document), "x<a>b<a"), "x|<a>|b|<a");
}

TEST(AddedTokens, Flags) {
  json document = ByteLevelDocument();
  document["normalizer"] = {{"type", "Lowercase"}};
  AddToken(document, "word", 256, false, {"single_word"});
  AddToken(document, "<l>", 257, true, {"lstrip"});
  AddToken(document, "<r>", 258, true, {"rstrip"});
  AddToken(document, "Day", 259, false, {"normalized"});
  AddToken(document, "RAW", 260, false);
  const auto tokenizer = MustParse(document);
  EXPECT_EQ(Spell(*tokenizer, "word.wordy word"), "word|.|w|o|r|d|y|Ġ|word");
  EXPECT_EQ(Spell(*tokenizer, "a  <l> b"), "a|<l>|Ġ|b");
  EXPECT_EQ(Spell(*tokenizer, "a <r> \n b"), "a|Ġ|<r>|b");
  EXPECT_EQ(Spell(*tokenizer, "<r>  <l>"), "<r>|<l>");
  EXPECT_EQ(Spell(*tokenizer, "DAYRAWraw"), "day|RAW|r|a|w");
}

TEST(AddedTokens, ManyThatStripInOneRunOfSpace) {
  json document = ByteLevelDocument();
  AddToken(document, "\n", 256, false, {"lstrip", "rstrip"});
  const auto ids = MustParse(document)->Encode(std::string(1 << 20, '\n'), false);
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(ids->size(), size_t{1} << 20);  // as the library: each is found, the first takes the white space
}

TEST(AddedTokens, TheFilesIdsCount) {
  json document = ByteLevelDocument();
  AddToken(document, "<x>", 1000, true);
  const auto tokenizer = MustParse(document);
  EXPECT_EQ(tokenizer->TokenId("<x>"), 1000);
  EXPECT_EQ(tokenizer->vocab_size(), 1001);
  EXPECT_TRUE(tokenizer->IsSpecial(1000));
  EXPECT_FALSE(tokenizer->IsSpecial(999) || tokenizer->IsSpecial(-1) || tokenizer->IsSpecial(1001));
  EXPECT_FALSE(tokenizer->Knows(999));
  EXPECT_EQ(tokenizer->TokenText(999), "");
}

std::shared_ptr<const Tokenizer> ChatTokenizer() {
  json document = ByteLevelDocument({"h i", "Ġ u"});
  AddToken(document, "<s>", 258, true);
  AddToken(document, "<e>", 259, true);
  AddToken(document, "<think>", 260, false);
  return MustParse(document);
}

TEST(Segments, SpecialTokensOnlyInTrustedText) {
  const auto tokenizer = ChatTokenizer();
  EXPECT_EQ(SpellSegments(*tokenizer, {{"<s>", true}, {"<e>hi", false}, {"<e>", true}}), "<s>|<|e|>|hi|<e>");
  EXPECT_EQ(SpellSegments(*tokenizer, {{"<s>", false}}), "<|s|>");
  EXPECT_EQ(SpellSegments(*tokenizer, {}), "");
}

TEST(Segments, NoSpecialTokenAcrossABorder) {
  const auto tokenizer = ChatTokenizer();
  EXPECT_EQ(SpellSegments(*tokenizer, {{"<", true}, {"s", false}, {">", true}}), "<|s|>");
  EXPECT_EQ(SpellSegments(*tokenizer, {{"<s", true}, {">", false}}), "<|s|>");
  EXPECT_EQ(SpellSegments(*tokenizer, {{"<", false}, {"s>", true}}), "<|s|>");
  EXPECT_EQ(SpellSegments(*tokenizer, {{"<s", true}, {"", false}, {">", true}}), "<s>");  // all trusted
}

TEST(Segments, EverythingElseIsTheJoinedText) {
  const auto tokenizer = ChatTokenizer();
  EXPECT_EQ(SpellSegments(*tokenizer, {{"h", true}, {"i ", false}, {"u", true}}), "hi|Ġu");
  EXPECT_EQ(SpellSegments(*tokenizer, {{"x", true}, {"<think>", false}}), "x|<think>");  // not special: it is text
}

TEST(Segments, NormalizedSpecialTokensAreGuardedToo) {
  json document = SentencePieceDocument({"▁", "a", "b", "<", "s", ">"}, {}, false);
  document["normalizer"] = json::parse(R"({"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},
      {"type":"NFC"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]})");
  AddToken(document, "<s>", 1, true, {"normalized"});
  const auto tokenizer = MustParse(document);  // its pattern is "▁<s>"
  EXPECT_EQ(SpellSegments(*tokenizer, {{"a <s>", true}}), "▁|a|▁<s>");
  EXPECT_EQ(SpellSegments(*tokenizer, {{"a <s>", false}}), "▁|a|▁|<|s|>");
  EXPECT_EQ(SpellSegments(*tokenizer, {{"a <s>", true}, {"中", false}}), "▁|a|▁<s>|<unk>");
  EXPECT_EQ(SpellSegments(*tokenizer, {{"a", true}, {" ", false}, {"<s>", true}}), "▁|a|▁|<|s|>");
}

TEST(Encode, RejectsInvalidUtf8) {
  const auto tokenizer = ChatTokenizer();
  for (const std::string_view text : {"\xED\xA0\x80", "a\xFF", "\xC0\x80", "ok\xE2\x82"}) {
    EXPECT_EQ(tokenizer->Encode(text, true).status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(tokenizer->EncodeSegments({{{std::string(text), false}}}).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
  // Two halves of a character in two segments are not a character.
  const std::vector<TextSegment> halves = {{"\xC3", true}, {"\xA9", false}};
  EXPECT_EQ(tokenizer->EncodeSegments(halves).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Encode, RejectsTooLongText) {
  const std::string text(Tokenizer::kMaxTextBytes + 1, 'a');
  EXPECT_EQ(ChatTokenizer()->Encode(text, true).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Encode, RunawayPatternIsAnError) {
  json document = ByteLevelDocument();
  document["pre_tokenizer"] =
      json::parse(R"({"type":"Split","pattern":{"Regex":"(?:a|aa)+$"},"behavior":"Isolated","invert":false})");
  const auto status = MustParse(document)->Encode(std::string(200, 'a') + "!", false).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
}

TEST(Encode, MegabytesOfAnything) {
  json document = ByteLevelDocument({"a a", "Ġ Ġ", "ĠĠ ĠĠ"});
  document["normalizer"] = {{"type", "NFC"}};
  AddToken(document, "<|special|>", 300, true);
  const auto tokenizer = MustParse(document);
  const auto round_trip = [&](const std::string& unit, size_t size) {
    std::string text;
    while (text.size() < size) text += unit;
    const auto ids = tokenizer->Encode(text, false);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(tokenizer->Encode(tokenizer->Decode(*ids, false), false).value(), *ids);
  };
  for (const char* unit : {"a", " ", "\u0301\u0316"}) round_trip(unit, size_t{1} << 20);
  for (const char* unit : {"\n", "7", "!", "\u0301", "中", "😀", "a ", " a", "'s", "<|specia", "\u00A0"}) {
    round_trip(unit, size_t{1} << 16);
  }
}

TEST(Encode, ManyThreadsOneTokenizer) {
  const auto tokenizer = ChatTokenizer();
  std::vector<std::string> texts;
  std::mt19937 random(5);
  for (int i = 0; i < 200; ++i) {
    std::string text;
    for (int n = 0; n < 40; ++n) text += "hi u<s>x\n"[random() % 9];
    texts.push_back(text);
  }
  std::vector<std::vector<int32_t>> expected;
  for (const std::string& text : texts) expected.push_back(tokenizer->Encode(text, false).value());
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int thread = 0; thread < 6; ++thread) {
    threads.emplace_back([&, thread] {
      for (size_t i = 0; i < texts.size(); ++i) {
        const size_t at = (i * 7 + static_cast<size_t>(thread) * 31) % texts.size();
        if (tokenizer->Encode(texts[at], false).value() != expected[at]) ++wrong;
        Detokenizer detokenizer(tokenizer, false);
        std::string text;
        for (const int32_t id : expected[at]) text += detokenizer.Append(id);
        if (text + detokenizer.Finish() != texts[at]) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

std::string Error(const json& document) {
  const auto tokenizer = ParseDocument(document);
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(tokenizer.status().message());
}

TEST(Parse, NamesWhatIsBroken) {
  const json good = ByteLevelDocument({"a b"});
  const auto with = [&](const char* pointer, const json& value) {
    json document = good;
    document[json::json_pointer(pointer)] = value;
    return Error(document);
  };
  EXPECT_EQ(with("/model/type", "Unigram"),
            "tokenizer.json: model: a model of type 'Unigram' is not supported, only BPE");
  EXPECT_EQ(with("/model/vocab", 3), "tokenizer.json: model.vocab: must be an object");
  EXPECT_EQ(with("/model/vocab/b", "x"), "tokenizer.json: model.vocab: the id of 'b' must be an id in [0, 16777216)");
  EXPECT_EQ(with("/model/vocab/b", -1), "tokenizer.json: model.vocab: the id of 'b' must be an id in [0, 16777216)");
  EXPECT_EQ(with("/model/vocab/b", 1u << 31),
            "tokenizer.json: model.vocab: the id of 'b' must be an id in [0, 16777216)");
  EXPECT_EQ(with("/model/vocab/b", 1.5), "tokenizer.json: model.vocab: the id of 'b' must be an id in [0, 16777216)");
  EXPECT_EQ(with("/model/vocab/b", 97), "tokenizer.json: model.vocab: 'a' and 'b' share the id 97");
  EXPECT_EQ(with("/model/merges", json::array({"a"})),
            "tokenizer.json: model.merges[0]: must be two tokens with one space between");
  EXPECT_EQ(with("/model/merges", json::array({"a b c"})),
            "tokenizer.json: model.merges[0]: must be two tokens with one space between");
  EXPECT_EQ(with("/model/merges", json::array({"a zz"})),
            "tokenizer.json: model.merges[0]: 'zz' is not in the vocabulary");
  EXPECT_EQ(with("/model/merges", json::array({"b a"})),
            "tokenizer.json: model.merges[0]: the merged token 'ba' is not in the vocabulary");
  EXPECT_EQ(with("/model/merges", json::array({{1, 2}})),
            "tokenizer.json: model.merges[0]: must be a string or a pair of strings");
  EXPECT_EQ(with("/model/unk_token", "?!"), "tokenizer.json: model: the unk_token '?!' is not in the vocabulary");
  EXPECT_EQ(with("/model/dropout", 0.1), "tokenizer.json: model: dropout is not supported: it makes encodings random");
  EXPECT_EQ(with("/model/byte_fallback", "yes"), "tokenizer.json: model.byte_fallback: must be true or false");
  EXPECT_EQ(with("/model", nullptr), "tokenizer.json: model: must be an object");
  EXPECT_EQ(with("/pre_tokenizer", {{"type", "Nonsense"}}),
            "tokenizer.json: pre_tokenizer: a pre-tokenizer of type 'Nonsense' is not supported");
  EXPECT_EQ(with("/pre_tokenizer", json::array()), "tokenizer.json: pre_tokenizer: must be an object");
  EXPECT_EQ(with("/normalizer", {{"type", "Sequence"}, {"normalizers", json::array({{{"type", "Precompiled"}}})}}),
            "tokenizer.json: normalizer.normalizers[0]: a normalizer of type 'Precompiled' is not supported");
  EXPECT_EQ(with("/added_tokens", json::array({{{"id", 1}}})), "tokenizer.json.added_tokens[0]: 'content' is missing");
}

TEST(Parse, AddedTokensMustNotContradict) {
  json document = ByteLevelDocument();
  AddToken(document, "a", 300, false);
  EXPECT_THAT(Error(document), HasSubstr("the added token 'a' has the id 300, but the vocabulary knows it as 97"));
  document = ByteLevelDocument();
  AddToken(document, "<x>", 97, false);
  EXPECT_THAT(Error(document), HasSubstr("the vocabulary gives that id to 'a'"));
  document = ByteLevelDocument();
  AddToken(document, "<x>", 300, false);
  AddToken(document, "<y>", 300, false);
  EXPECT_THAT(Error(document), HasSubstr("'<x>' and '<y>' share the id 300"));
  document["added_tokens"][1]["content"] = "<x>";
  EXPECT_THAT(Error(document), HasSubstr("is added twice"));
  document["added_tokens"][1]["id"] = 2'000'000'000;
  EXPECT_THAT(Error(document), HasSubstr("must be an id in"));
}

TEST(Parse, EveryTruncationFailsCleanly) {
  const std::string text = ByteLevelDocument({"a b"}).dump();
  for (size_t size = 0; size < text.size(); size += size < 200 || size + 200 > text.size() ? 1 : 53) {
    const auto tokenizer = Tokenizer::Parse(text.substr(0, size), "cut.json");
    ASSERT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument) << size;
    ASSERT_THAT(std::string(tokenizer.status().message()), HasSubstr("cut.json: not valid JSON")) << size;
  }
}

TEST(Parse, EveryValueMayHaveTheWrongType) {
  json document = ByteLevelDocument({"a b"});
  AddToken(document, "<x>", 300, true);
  document["normalizer"] = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "x"}};
  document["post_processor"] =
      json::parse(R"({"type":"TemplateProcessing","single":[{"Sequence":{"id":"A","type_id":0}}],
      "special_tokens":{}})");
  document["model"]["vocab"] = {{"a", 0}, {"b", 1}, {"ab", 2}};
  const json flat = document.flatten();
  for (const auto& [path, value] : flat.items()) {
    for (std::string parent = path; !parent.empty(); parent.erase(parent.rfind('/'))) {
      for (const json& wrong :
           {json(-7), json("x"), json(1e300), json(true), json::array({1}), json::object({{"k", nullptr}})}) {
        json broken = document;
        broken[json::json_pointer(parent)] = wrong;
        const auto tokenizer = ParseDocument(broken);  // may be valid; must not crash
        EXPECT_TRUE(!tokenizer.ok() || (*tokenizer)->Encode("a b<x>", true).ok());
      }
    }
  }
}

TEST(Parse, NestingIsBounded) {
  std::string deep(200'000, '[');
  EXPECT_THAT(std::string(Tokenizer::Parse(deep, "deep.json").status().message()),
              HasSubstr("deep.json: nests too deeply"));
  std::string sequence = R"({"type":"NFC"})";
  for (int i = 0; i < 40; ++i) sequence = R"({"type":"Sequence","normalizers":[)" + sequence + "]}";
  json document = ByteLevelDocument();
  document["normalizer"] = json::parse(sequence);
  EXPECT_THAT(Error(document), HasSubstr("nests too deeply"));
}

TEST(Parse, NotJsonAtAll) {
  for (const std::string_view text : {"", "null", "[]", "3", "{}", "\"x\"", "\xFF\xFE", "{\"model\":\"\xC3\"}",
                                      R"({"model":{"vocab":{"\ud800":1}}})"}) {
    EXPECT_EQ(Tokenizer::Parse(text, "x.json").status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(Load, ReadsTheFolder) {
  const auto folder =
      std::filesystem::temp_directory_path() / ("hysparse_tokenizer_test_" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  EXPECT_EQ(Tokenizer::Load(folder.string()).status().code(), absl::StatusCode::kNotFound);
  std::ofstream(folder / "tokenizer.json") << ByteLevelDocument({"a b"}).dump();
  const auto tokenizer = Tokenizer::Load(folder.string());
  std::filesystem::remove_all(folder);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(Spell(**tokenizer, "abé"), "ab|Ã|©");
}

}  // namespace
}  // namespace hysparse
