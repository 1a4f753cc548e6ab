#include "engine/text/normalizer.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/result.h"
#include "engine/text/byte_alphabet.h"
#include "engine/text/regex.h"
#include "engine/text/unicode.h"
#include "engine/text/unicode_forms.h"
#include "engine/text/utf8.h"

namespace hysparse {
namespace {

// Rewrites a text part by part; each new part is untrusted if any byte it comes from is.
class Rewriter {
 public:
  explicit Rewriter(NormalizedText& text) : text_(text) {}

  bool Trusted(size_t begin, size_t end) const {
    if (text_.untrusted.empty()) return true;
    const auto flags = text_.untrusted.begin();
    return std::find(flags + static_cast<std::ptrdiff_t>(begin), flags + static_cast<std::ptrdiff_t>(end), 1) ==
           flags + static_cast<std::ptrdiff_t>(end);
  }
  void Put(std::string_view part, bool trusted) {
    out_ += part;
    if (!text_.untrusted.empty()) untrusted_.insert(untrusted_.end(), part.size(), trusted ? 0 : 1);
  }
  // Bytes [begin, end) as they were.
  void Keep(size_t begin, size_t end) {
    out_.append(text_.text, begin, end - begin);
    if (text_.untrusted.empty()) return;
    const auto flags = text_.untrusted.begin();
    untrusted_.insert(untrusted_.end(), flags + static_cast<std::ptrdiff_t>(begin),
                      flags + static_cast<std::ptrdiff_t>(end));
  }
  void Finish(size_t origin_bytes) { text_ = {std::move(out_), origin_bytes, std::move(untrusted_)}; }

 private:
  NormalizedText& text_;
  std::string out_;
  std::vector<uint8_t> untrusted_;
};

// A mapping that never looks across the start of an ASCII character.
class Mapped : public Normalizer {
 public:
  absl::Status Apply(NormalizedText& text) const final {
    const bool has_origin = text.origin_bytes > 0;
    Rewriter rewriter(text);
    if (text.untrusted.empty()) {
      rewriter.Put(Map(text.text), true);
    } else {
      for (size_t begin = 0, end; begin < text.text.size(); begin = end) {
        end = begin + 1;
        while (end < text.text.size() && static_cast<unsigned char>(text.text[end]) >= 0x80) ++end;
        MapMixed(text, begin, end, rewriter);
      }
    }
    rewriter.Finish(0);
    if (has_origin && !text.text.empty()) text.origin_bytes = Utf8Length(text.text[0]);
    return absl::OkStatus();
  }

  virtual std::string Map(std::string_view text) const = 0;

 private:
  // Where characters of both kinds do not combine with each other each keeps its trust; otherwise all are untrusted.
  void MapMixed(const NormalizedText& text, size_t begin, size_t end, Rewriter& rewriter) const {
    const std::string whole = Map(std::string_view(text.text).substr(begin, end - begin));
    std::vector<std::pair<std::string, bool>> parts;
    std::string joined;
    for (size_t at = begin, next; at < end; at = next) {
      for (next = at + 1; next < end && text.untrusted[next] == text.untrusted[at];) ++next;
      parts.emplace_back(Map(std::string_view(text.text).substr(at, next - at)), text.untrusted[at] == 0);
      joined += parts.back().first;
    }
    if (joined != whole) parts = {{whole, false}};
    for (const auto& [part, trusted] : parts) rewriter.Put(part, trusted);
  }
};

template <typename Function>
class MappedBy : public Mapped {
 public:
  explicit MappedBy(Function function) : function_(function) {}
  std::string Map(std::string_view text) const override { return function_(text); }

 private:
  Function function_;
};

template <typename Function>
std::unique_ptr<const Normalizer> MapBy(Function function) {
  return std::make_unique<MappedBy<Function>>(function);
}

class Prepend : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  absl::Status Apply(NormalizedText& text) const override {
    if (text.text.empty()) return absl::OkStatus();
    text.text.insert(0, prefix_);
    if (!text.untrusted.empty()) text.untrusted.insert(text.untrusted.begin(), prefix_.size(), 0);
    if (text.origin_bytes > 0) text.origin_bytes += prefix_.size();
    return absl::OkStatus();
  }

 private:
  std::string prefix_;
};

class Replace : public Normalizer {
 public:
  Replace(std::unique_ptr<const Regex> regex, std::string content)
      : regex_(std::move(regex)), content_(std::move(content)) {}

  absl::Status Apply(NormalizedText& text) const override {
    std::vector<Match> parts;
    HYSPARSE_RETURN_IF_ERROR(regex_->Partition(text.text, parts));
    Rewriter rewriter(text);
    size_t origin = 0;
    for (const Match& part : parts) {
      // What replaces a match stands where the match's last character stood.
      const bool from_origin = part.end <= text.origin_bytes;
      if (part.is_match) {
        rewriter.Put(content_, rewriter.Trusted(part.begin, part.end));
        if (from_origin) origin += content_.size();
      } else {
        rewriter.Keep(part.begin, part.end);
        if (part.begin < text.origin_bytes) origin += std::min(part.end, text.origin_bytes) - part.begin;
      }
    }
    rewriter.Finish(origin);
    return absl::OkStatus();
  }

 private:
  std::unique_ptr<const Regex> regex_;
  std::string content_;
};

class Strip : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  absl::Status Apply(NormalizedText& text) const override {
    size_t begin = 0, end = text.text.size();
    for (size_t next = begin; left_ && next < end; begin = next) {
      if (!IsWhitespace(DecodeUtf8(text.text, next))) break;
    }
    for (size_t before = end; right_ && before > begin; end = before) {
      if (!IsWhitespace(DecodeUtf8Before(text.text, before))) break;
    }
    Rewriter rewriter(text);
    rewriter.Keep(begin, end);
    rewriter.Finish(begin == 0 ? std::min(text.origin_bytes, end) : 0);
    return absl::OkStatus();
  }

 private:
  bool left_, right_;
};

class NormalizerSequence : public Normalizer {
 public:
  explicit NormalizerSequence(std::vector<std::unique_ptr<const Normalizer>> parts) : parts_(std::move(parts)) {}
  absl::Status Apply(NormalizedText& text) const override {
    for (const auto& part : parts_) HYSPARSE_RETURN_IF_ERROR(part->Apply(text));
    return absl::OkStatus();
  }

 private:
  std::vector<std::unique_ptr<const Normalizer>> parts_;
};

absl::StatusOr<std::unique_ptr<const Normalizer>> ParseReplace(const JsonView& json) {
  HYSPARSE_ASSIGN_OR_RETURN(std::string content, json.String("content"));
  HYSPARSE_ASSIGN_OR_RETURN(const JsonView pattern, json.Object("pattern"));
  const bool literal = pattern.Has("String");
  HYSPARSE_ASSIGN_OR_RETURN(const std::string text, pattern.String(literal ? "String" : "Regex"));
  auto regex = literal ? Regex::CompileLiteral(text) : Regex::Compile(text);
  if (!regex.ok()) return pattern.At(regex.status());
  return std::make_unique<Replace>(std::move(*regex), std::move(content));
}

absl::StatusOr<std::unique_ptr<const Normalizer>> ParseNormalizerSequence(const JsonView& json) {
  HYSPARSE_ASSIGN_OR_RETURN(const std::vector<JsonView> views, json.Array("normalizers"));
  std::vector<std::unique_ptr<const Normalizer>> parts;
  for (const JsonView& view : views) {
    HYSPARSE_ASSIGN_OR_RETURN(auto part, Normalizer::Parse(view));
    parts.push_back(std::move(part));
  }
  return std::make_unique<NormalizerSequence>(std::move(parts));
}

std::unique_ptr<const Normalizer> FormNormalizer(UnicodeForm form) {
  return MapBy([form](std::string_view text) { return ToUnicodeForm(text, form); });
}

}  // namespace

absl::StatusOr<std::unique_ptr<const Normalizer>> Normalizer::Parse(const JsonView& json) {
  HYSPARSE_ASSIGN_OR_RETURN(const std::string type, json.Type());
  if (type == "Sequence") return ParseNormalizerSequence(json);
  if (type == "NFC") return FormNormalizer(UnicodeForm::kNfc);
  if (type == "NFD") return FormNormalizer(UnicodeForm::kNfd);
  if (type == "NFKC") return FormNormalizer(UnicodeForm::kNfkc);
  if (type == "NFKD") return FormNormalizer(UnicodeForm::kNfkd);
  if (type == "Lowercase") return MapBy(ToLowerCase);
  if (type == "ByteLevel") return MapBy(ToByteAlphabet);
  if (type == "Replace") return ParseReplace(json);
  if (type == "Prepend") {
    HYSPARSE_ASSIGN_OR_RETURN(std::string prefix, json.String("prepend"));
    return std::make_unique<Prepend>(std::move(prefix));
  }
  if (type == "Strip") {
    HYSPARSE_ASSIGN_OR_RETURN(const bool left, json.Bool("strip_left"));
    HYSPARSE_ASSIGN_OR_RETURN(const bool right, json.Bool("strip_right"));
    return std::make_unique<Strip>(left, right);
  }
  return json.Error(absl::StrCat("a normalizer of type '", type, "' is not supported"));
}

}  // namespace hysparse
