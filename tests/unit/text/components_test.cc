// Normalizers, pre-tokenizers and post-processors, one by one.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "engine/text/normalizer.h"
#include "engine/text/post_processor.h"
#include "engine/text/pre_tokenizer.h"
#include "engine/text/unicode_forms.h"

namespace hysparse {
namespace {

using nlohmann::json;

NormalizedText Normalize(const std::string& component, NormalizedText text) {
  const json document = json::parse(component);
  const auto normalizer = Normalizer::Parse(JsonView(document, "normalizer"));
  if (!normalizer.ok()) return {std::string(normalizer.status().message()), 0, {}};
  EXPECT_TRUE((*normalizer)->Apply(text).ok());
  return text;
}

std::string Normalize(const std::string& component, const std::string& text) {
  return Normalize(component, NormalizedText{text, 0, {}}).text;
}

TEST(UnicodeForms, TheFour) {
  EXPECT_EQ(ToUnicodeForm("e\u0301 \u1112\u1161\u11AB", UnicodeForm::kNfc), "é 한");
  EXPECT_EQ(ToUnicodeForm("é한", UnicodeForm::kNfd), "e\u0301\u1112\u1161\u11AB");
  EXPECT_EQ(ToUnicodeForm("ﬁ①Å", UnicodeForm::kNfkc), "fi1Å");
  EXPECT_EQ(ToUnicodeForm("ﬁ①Å", UnicodeForm::kNfkd), "fi1A\u030A");
  EXPECT_EQ(ToUnicodeForm("가\u11A8", UnicodeForm::kNfc), "각");  // a stable character that a jamo then joins
  EXPECT_EQ(ToUnicodeForm("\u0301\u0316", UnicodeForm::kNfc), "\u0316\u0301");
}

TEST(UnicodeForms, NothingCombinesAcrossCharactersNewerThanTheLibrary) {
  EXPECT_EQ(ToUnicodeForm("\u0345\u0898", UnicodeForm::kNfc), "\u0345\u0898");
  EXPECT_EQ(ToUnicodeForm("a\u0898\u0301", UnicodeForm::kNfc), "a\u0898\u0301");
  EXPECT_EQ(ToUnicodeForm("\U00011935\U00011930", UnicodeForm::kNfc), "\U00011935\U00011930");
}

TEST(UnicodeForms, EndlessMarksAreSortedInGoodTime) {
  std::string marks = "a";
  for (int i = 0; i < 200'000; ++i) marks += i % 2 ? "\u0301" : "\u0316";
  const std::string form = ToUnicodeForm(marks, UnicodeForm::kNfc);
  EXPECT_EQ(form.substr(0, 5), "á\u0316" + form.substr(4, 1));
  EXPECT_TRUE(form.ends_with("\u0301\u0301"));
}

TEST(UnicodeForms, LowerCase) { EXPECT_EQ(ToLowerCase("ÀΣİ\U00010D50\u1C89"), "àσi\u0307\U00010D70\u1C8A"); }

TEST(Normalizer, Components) {
  EXPECT_EQ(Normalize(R"({"type":"Prepend","prepend":"▁"})", "a"), "▁a");
  EXPECT_EQ(Normalize(R"({"type":"Prepend","prepend":"▁"})", ""), "");
  EXPECT_EQ(Normalize(R"({"type":"Replace","pattern":{"String":" "},"content":"▁"})", " a  "), "▁a▁▁");
  EXPECT_EQ(Normalize(R"({"type":"Replace","pattern":{"Regex":"\\s+"},"content":" "})", "a\t \nb"), "a b");
  EXPECT_EQ(Normalize(R"({"type":"Strip","strip_left":true,"strip_right":false})", "\u3000 a "), "a ");
  EXPECT_EQ(Normalize(R"({"type":"Strip","strip_left":true,"strip_right":true})", " \n"), "");
  EXPECT_EQ(Normalize(R"({"type":"ByteLevel"})", " é"), "ĠÃ©");
  EXPECT_EQ(Normalize(R"({"type":"Sequence","normalizers":[{"type":"NFD"},{"type":"Lowercase"}]})", "É"), "e\u0301");
  EXPECT_EQ(Normalize(R"({"type":"Nmt"})", ""), "normalizer: a normalizer of type 'Nmt' is not supported");
  EXPECT_EQ(Normalize(R"({"type":"Replace","pattern":{"Regex":"("},"content":""})", "").substr(0, 19),
            "normalizer.pattern:");
}

TEST(Normalizer, TrustFollowsTheText) {
  // "<s>" trusted, then an untrusted letter; the combining mark makes one character of trusted and untrusted parts.
  const NormalizedText kept = Normalize(R"({"type":"NFC"})", {"<s>中", 3, {0, 0, 0, 1, 1, 1}});
  EXPECT_EQ(kept.untrusted, (std::vector<uint8_t>{0, 0, 0, 1, 1, 1}));
  const NormalizedText mixed = Normalize(R"({"type":"NFC"})", {"xe\u0301", 1, {0, 0, 1, 1}});
  EXPECT_EQ(mixed.text, "xé");
  EXPECT_EQ(mixed.untrusted, (std::vector<uint8_t>{0, 1, 1}));
  const NormalizedText replaced =
      Normalize(R"({"type":"Replace","pattern":{"Regex":"a+"},"content":"<s>"})", {"aab", 1, {0, 1, 0}});
  EXPECT_EQ(replaced.text, "<s>b");
  EXPECT_EQ(replaced.untrusted, (std::vector<uint8_t>{1, 1, 1, 0}));
}

std::string Words(const std::string& component, const std::string& text, bool at_start = true) {
  const json document = json::parse(component);
  const auto pre_tokenizer = PreTokenizer::Parse(JsonView(document, "pre_tokenizer"));
  if (!pre_tokenizer.ok()) return std::string(pre_tokenizer.status().message());
  WordList words{text, {{0, static_cast<uint32_t>(text.size()), at_start}}};
  EXPECT_TRUE((*pre_tokenizer)->Apply(words).ok());
  std::string joined;
  for (const Span& span : words.spans)
    joined += (joined.empty() ? "" : "|") + words.text.substr(span.begin, span.end - span.begin);
  return joined;
}

std::string SplitWords(const std::string& behavior, bool invert, const std::string& text) {
  return Words(
      json{{"type", "Split"}, {"pattern", {{"String", "-"}}}, {"behavior", behavior}, {"invert", invert}}.dump(), text);
}

TEST(PreTokenizer, SplitBehaviors) {
  const std::string text = "-the-final--countdown-";
  EXPECT_EQ(SplitWords("Removed", false, text), "the|final|countdown");
  EXPECT_EQ(SplitWords("Isolated", false, text), "-|the|-|final|-|-|countdown|-");
  EXPECT_EQ(SplitWords("MergedWithPrevious", false, text), "-|the-|final-|-|countdown-");
  EXPECT_EQ(SplitWords("MergedWithNext", false, text), "-the|-final|-|-countdown|-");
  EXPECT_EQ(SplitWords("Contiguous", false, text), "-|the|-|final|--|countdown|-");
  EXPECT_EQ(SplitWords("Removed", true, text), "-|-|-|-|-");
  EXPECT_EQ(SplitWords("MergedWithNext", true, text), "-|the-|final-|-|countdown-");
}

TEST(PreTokenizer, CharacterClasses) {
  EXPECT_EQ(Words(R"({"type":"Digits","individual_digits":true})", "a12²b"), "a|1|2|²|b");
  EXPECT_EQ(Words(R"({"type":"Digits","individual_digits":false})", "a12²b"), "a|12²|b");
  EXPECT_EQ(Words(R"({"type":"Punctuation"})", "a,!«b"), "a|,|!|«|b");
  EXPECT_EQ(Words(R"({"type":"Punctuation","behavior":"Contiguous"})", "a,!«b"), "a|,!«|b");
  EXPECT_EQ(Words(R"({"type":"Whitespace"})", "it's  e\u0301, ok"), "it|'|s|e\u0301|,|ok");
  EXPECT_EQ(Words(R"({"type":"WhitespaceSplit"})", " a\u3000b "), "a|b");
}

TEST(PreTokenizer, ByteLevelAndMetaspace) {
  EXPECT_EQ(Words(R"({"type":"ByteLevel","add_prefix_space":true,"use_regex":true})", "a b's"), "Ġa|Ġb|'s");
  EXPECT_EQ(Words(R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":false})", "a é"), "aĠÃ©");
  EXPECT_EQ(Words(R"({"type":"Metaspace","replacement":"▁","prepend_scheme":"always"})", "a  b"), "▁a|▁|▁b");
  EXPECT_EQ(Words(R"({"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":false})", " a"), "▁a");
  EXPECT_EQ(Words(R"({"type":"Metaspace","replacement":"▁","prepend_scheme":"first"})", "a", false), "a");
  EXPECT_EQ(Words(R"({"type":"Metaspace","replacement":"▁","prepend_scheme":"first"})", "a", true), "▁a");
  EXPECT_EQ(Words(R"({"type":"Metaspace","replacement":"▁","add_prefix_space":false})", "a b"), "a|▁b");
  EXPECT_EQ(Words(R"({"type":"Metaspace","replacement":"▁▁"})", ""),
            "pre_tokenizer: 'replacement' must be one character");
}

std::vector<int32_t> Process(const std::string& component, bool add) {
  const json document = json::parse(component);
  const auto processor = PostProcessor::Parse(JsonView(document, "post_processor"));
  if (!processor.ok()) ADD_FAILURE() << processor.status();
  return processor.ok() ? processor->Apply({7, 8}, add) : std::vector<int32_t>();
}

std::string ProcessError(const std::string& component) {
  const json document = json::parse(component);
  return std::string(PostProcessor::Parse(JsonView(document, "post_processor")).status().message());
}

TEST(PostProcessor, AddsTokensOnlyWhenAsked) {
  const std::string bos = R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},
      {"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{"<s>":{"id":"<s>","ids":[1,2],"tokens":["<s>","x"]}}})";
  EXPECT_EQ(Process(bos, true), (std::vector<int32_t>{1, 2, 7, 8}));
  EXPECT_EQ(Process(bos, false), (std::vector<int32_t>{7, 8}));
  EXPECT_EQ(Process(R"({"type":"Sequence","processors":[{"type":"ByteLevel"},)" + bos + "]}", true),
            (std::vector<int32_t>{1, 2, 7, 8}));
  EXPECT_EQ(Process(R"({"type":"BertProcessing","cls":["c",5],"sep":["s",6]})", true),
            (std::vector<int32_t>{5, 7, 8, 6}));
  EXPECT_EQ(Process("null", true), (std::vector<int32_t>{7, 8}));
}

TEST(PostProcessor, RefusesWhatIsBroken) {
  EXPECT_EQ(ProcessError(R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x"}}],"special_tokens":{}})"),
            "post_processor.special_tokens: 'x' is missing");
  EXPECT_EQ(ProcessError(R"({"type":"TemplateProcessing","single":[{"Sequence":{"id":"B"}}],"special_tokens":{}})"),
            "post_processor.single[0].Sequence: a single sequence has only the id A");
  EXPECT_EQ(ProcessError(R"({"type":"Magic"})"), "post_processor: a post-processor of type 'Magic' is not supported");
  EXPECT_EQ(ProcessError(R"({"type":"RobertaProcessing","cls":["c",-5],"sep":["s",6]})"),
            "post_processor: 'cls' must be a pair of a token and its id");
}

}  // namespace
}  // namespace hysparse
