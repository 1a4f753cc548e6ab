#include "engine/text/pre_tokenizer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/result.h"
#include "engine/text/byte_alphabet.h"
#include "engine/text/regex.h"
#include "engine/text/split.h"
#include "engine/text/string_view.h"
#include "engine/text/unicode.h"
#include "engine/text/utf8.h"

namespace hysparse {
namespace {

std::string_view TextOf(const WordList& words, const Span& span) {
  return std::string_view(words.text).substr(span.begin, span.end - span.begin);
}

// Cuts each word where a pattern matches. `invert`: where it does not.
class Split : public PreTokenizer {
 public:
  Split(std::unique_ptr<const Regex> regex, SplitBehavior behavior, bool invert)
      : regex_(std::move(regex)), behavior_(behavior), invert_(invert) {}

  absl::Status Apply(WordList& words) const override {
    std::vector<Span> cut;
    cut.reserve(words.spans.size() + words.text.size() / 4);
    std::vector<Match> matches;
    for (const Span& span : words.spans) {
      matches.clear();
      HYSPARSE_RETURN_IF_ERROR(regex_->Partition(TextOf(words, span), matches));
      if (invert_) {
        for (Match& match : matches) match.is_match = !match.is_match;
      }
      CutSpan(span, matches, behavior_, cut);
    }
    words.spans = std::move(cut);
    return absl::OkStatus();
  }

 private:
  std::unique_ptr<const Regex> regex_;
  SplitBehavior behavior_;
  bool invert_;
};

// Cuts each word at the characters of a class, each a match of its own.
class CharacterSplit : public PreTokenizer {
 public:
  CharacterSplit(bool (*matches)(char32_t), SplitBehavior behavior) : matches_(matches), behavior_(behavior) {}

  absl::Status Apply(WordList& words) const override {
    std::vector<Span> cut;
    cut.reserve(words.spans.size());
    std::vector<Match> matches;
    for (const Span& span : words.spans) {
      matches.clear();
      const std::string_view text = TextOf(words, span);
      size_t covered = 0;
      for (size_t at = 0; at < text.size();) {
        const size_t begin = at;
        if (!matches_(DecodeUtf8(text, at))) continue;
        if (covered < begin) matches.push_back({covered, begin, false});
        matches.push_back({begin, at, true});
        covered = at;
      }
      if (covered < text.size()) matches.push_back({covered, text.size(), false});
      CutSpan(span, matches, behavior_, cut);
    }
    words.spans = std::move(cut);
    return absl::OkStatus();
  }

 private:
  bool (*matches_)(char32_t);
  SplitBehavior behavior_;
};

// Cuts into runs of word characters and runs of other visible ones; white space vanishes.
class WhitespaceSplit : public PreTokenizer {
 public:
  absl::Status Apply(WordList& words) const override {
    enum Kind { kSpace, kWord, kOther };
    std::vector<Span> cut;
    for (const Span& span : words.spans) {
      const std::string_view text = TextOf(words, span);
      size_t begin = 0;
      Kind previous = kSpace;
      const auto end_run = [&](size_t end) {
        const auto first = static_cast<uint32_t>(span.begin + begin), last = static_cast<uint32_t>(span.begin + end);
        if (previous != kSpace && begin < end) cut.push_back({first, last, span.at_start && begin == 0});
        begin = end;
      };
      for (size_t at = 0; at < text.size();) {
        const size_t here = at;
        const char32_t c = DecodeUtf8(text, at);
        const Kind kind = IsWord(c) ? kWord : IsWhitespace(c) ? kSpace : kOther;
        if (kind != previous) end_run(here);
        previous = kind;
      }
      end_run(text.size());
    }
    words.spans = std::move(cut);
    return absl::OkStatus();
  }
};

// GPT-2's: optional leading space per word, optional regex, then every byte becomes a character of the alphabet.
class ByteLevel : public PreTokenizer {
 public:
  ByteLevel(bool add_prefix_space, std::unique_ptr<const Split> split)
      : add_prefix_space_(add_prefix_space), split_(std::move(split)) {}

  bool LeaveBytesRaw() override { return raw_ = true; }

  absl::Status Apply(WordList& words) const override {
    if (add_prefix_space_) PrependSpace(words);
    if (split_ != nullptr) {
      HYSPARSE_RETURN_IF_ERROR(split_->Apply(words));
    }
    if (!raw_) SpellInAlphabet(words);
    return absl::OkStatus();
  }

 private:
  static void PrependSpace(WordList& words) {
    WordList spaced;
    spaced.text.reserve(words.text.size() + words.spans.size());
    for (const Span& span : words.spans) {
      const auto begin = static_cast<uint32_t>(spaced.text.size());
      const std::string_view text = TextOf(words, span);
      if (!text.starts_with(' ')) spaced.text += ' ';
      spaced.text += text;
      spaced.spans.push_back({begin, static_cast<uint32_t>(spaced.text.size()), span.at_start});
    }
    words = std::move(spaced);
  }

  static void SpellInAlphabet(WordList& words) {
    WordList spelt;
    spelt.text.reserve(words.text.size() * 2);
    for (const Span& span : words.spans) {
      const auto begin = static_cast<uint32_t>(spelt.text.size());
      for (const char c : TextOf(words, span)) spelt.text += ByteCharacter(static_cast<unsigned char>(c));
      spelt.spans.push_back({begin, static_cast<uint32_t>(spelt.text.size()), span.at_start});
    }
    words = std::move(spelt);
  }

  bool add_prefix_space_;
  std::unique_ptr<const Split> split_;
  bool raw_ = false;
};

// SentencePiece's: spaces become a visible character, which may also be put in front, and words start at each.
class Metaspace : public PreTokenizer {
 public:
  enum class Prepend { kAlways, kFirst, kNever };
  Metaspace(std::string replacement, Prepend prepend, std::unique_ptr<const Split> split)
      : replacement_(std::move(replacement)), prepend_(prepend), split_(std::move(split)) {}

  absl::Status Apply(WordList& words) const override {
    WordList marked;
    marked.text.reserve(words.text.size() * 2);
    for (const Span& span : words.spans) {
      const auto begin = static_cast<uint32_t>(marked.text.size());
      const std::string_view text = TextOf(words, span);
      const bool wanted = prepend_ == Prepend::kAlways || (prepend_ == Prepend::kFirst && span.at_start);
      if (wanted && !text.starts_with(' ') && !text.starts_with(replacement_)) marked.text += replacement_;
      for (const char c : text) {
        if (c == ' ') {
          marked.text += replacement_;
        } else {
          marked.text += c;
        }
      }
      marked.spans.push_back({begin, static_cast<uint32_t>(marked.text.size()), span.at_start});
    }
    words = std::move(marked);
    return split_ == nullptr ? absl::OkStatus() : split_->Apply(words);
  }

 private:
  std::string replacement_;
  Prepend prepend_;
  std::unique_ptr<const Split> split_;
};

class PreTokenizerSequence : public PreTokenizer {
 public:
  explicit PreTokenizerSequence(std::vector<std::unique_ptr<PreTokenizer>> parts) : parts_(std::move(parts)) {}
  bool LeaveBytesRaw() override { return !parts_.empty() && parts_.back()->LeaveBytesRaw(); }
  absl::Status Apply(WordList& words) const override {
    for (const auto& part : parts_) HYSPARSE_RETURN_IF_ERROR(part->Apply(words));
    return absl::OkStatus();
  }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> parts_;
};

constexpr char kGpt2Pattern[] = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

absl::StatusOr<std::unique_ptr<PreTokenizer>> ParseByteLevel(const JsonView& json) {
  HYSPARSE_ASSIGN_OR_RETURN(const bool add_prefix_space, json.Bool("add_prefix_space", true));
  HYSPARSE_ASSIGN_OR_RETURN(const bool use_regex, json.Bool("use_regex", true));
  std::unique_ptr<const Split> split;
  if (use_regex) {
    HYSPARSE_ASSIGN_OR_RETURN(auto regex, Regex::Compile(kGpt2Pattern));
    split = std::make_unique<Split>(std::move(regex), SplitBehavior::kIsolated, false);
  }
  return std::make_unique<ByteLevel>(add_prefix_space, std::move(split));
}

absl::StatusOr<std::unique_ptr<PreTokenizer>> ParseSplit(const JsonView& json) {
  HYSPARSE_ASSIGN_OR_RETURN(const SplitBehavior behavior, ParseSplitBehavior(json));
  HYSPARSE_ASSIGN_OR_RETURN(const bool invert, json.Bool("invert"));
  HYSPARSE_ASSIGN_OR_RETURN(const JsonView pattern, json.Object("pattern"));
  const bool literal = pattern.Has("String");
  HYSPARSE_ASSIGN_OR_RETURN(const std::string text, pattern.String(literal ? "String" : "Regex"));
  auto regex = literal ? Regex::CompileLiteral(text) : Regex::Compile(text);
  if (!regex.ok()) return pattern.At(regex.status());
  return std::make_unique<Split>(std::move(*regex), behavior, invert);
}

absl::StatusOr<std::unique_ptr<PreTokenizer>> ParseMetaspace(const JsonView& json) {
  HYSPARSE_ASSIGN_OR_RETURN(const std::string replacement, json.String("replacement"));
  if (replacement.empty() || Utf8Length(replacement[0]) != replacement.size()) {
    return json.Error("'replacement' must be one character");
  }
  HYSPARSE_ASSIGN_OR_RETURN(const bool add_prefix_space, json.Bool("add_prefix_space", true));
  HYSPARSE_ASSIGN_OR_RETURN(const std::string scheme,
                            json.String("prepend_scheme", add_prefix_space ? "always" : "never"));
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    return json.Error(absl::StrCat("the prepend_scheme '", scheme, "' is unknown"));
  }
  if (!add_prefix_space && scheme != "never") return json.Error("add_prefix_space contradicts prepend_scheme");
  const auto prepend = scheme == "always"  ? Metaspace::Prepend::kAlways
                       : scheme == "first" ? Metaspace::Prepend::kFirst
                                           : Metaspace::Prepend::kNever;
  HYSPARSE_ASSIGN_OR_RETURN(const bool splits, json.Bool("split", true));
  std::unique_ptr<const Split> split;
  if (splits) {
    HYSPARSE_ASSIGN_OR_RETURN(auto regex, Regex::CompileLiteral(replacement));
    split = std::make_unique<Split>(std::move(regex), SplitBehavior::kMergedWithNext, false);
  }
  return std::make_unique<Metaspace>(replacement, prepend, std::move(split));
}

absl::StatusOr<std::unique_ptr<PreTokenizer>> ParsePreTokenizerSequence(const JsonView& json) {
  HYSPARSE_ASSIGN_OR_RETURN(const std::vector<JsonView> views, json.Array("pretokenizers"));
  std::vector<std::unique_ptr<PreTokenizer>> parts;
  for (const JsonView& view : views) {
    HYSPARSE_ASSIGN_OR_RETURN(auto part, PreTokenizer::Parse(view));
    parts.push_back(std::move(part));
  }
  return std::make_unique<PreTokenizerSequence>(std::move(parts));
}

}  // namespace

absl::StatusOr<std::unique_ptr<PreTokenizer>> PreTokenizer::Parse(const JsonView& json) {
  HYSPARSE_ASSIGN_OR_RETURN(const std::string type, json.Type());
  if (type == "Sequence") return ParsePreTokenizerSequence(json);
  if (type == "ByteLevel") return ParseByteLevel(json);
  if (type == "Split") return ParseSplit(json);
  if (type == "Metaspace") return ParseMetaspace(json);
  if (type == "Digits") {
    HYSPARSE_ASSIGN_OR_RETURN(const bool individual, json.Bool("individual_digits"));
    const auto behavior = individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous;
    return std::make_unique<CharacterSplit>(IsNumeric, behavior);
  }
  if (type == "Punctuation") {
    auto behavior = SplitBehavior::kIsolated;
    if (json.Has("behavior")) {
      HYSPARSE_ASSIGN_OR_RETURN(behavior, ParseSplitBehavior(json));
    }
    return std::make_unique<CharacterSplit>(IsPunctuation, behavior);
  }
  if (type == "Whitespace") return std::make_unique<WhitespaceSplit>();
  if (type == "WhitespaceSplit") return std::make_unique<CharacterSplit>(IsWhitespace, SplitBehavior::kRemoved);
  return json.Error(absl::StrCat("a pre-tokenizer of type '", type, "' is not supported"));
}

}  // namespace hysparse
