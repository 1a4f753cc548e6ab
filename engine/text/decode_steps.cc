#include "engine/text/decode_steps.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/result.h"
#include "engine/text/byte_alphabet.h"
#include "engine/text/regex.h"
#include "engine/text/utf8.h"

namespace hysparse {
namespace {

using Sink = DecodeStage::Sink;

// A step whose stage refers to the step itself.
template <typename Step, typename Stage>
class StepWith : public DecodeStep {
 public:
  std::unique_ptr<DecodeStage> Start() const override {
    return std::make_unique<Stage>(static_cast<const Step&>(*this));
  }
};

// Stages that need a whole token at once collect its fragments.
class WholeTokenStage : public DecodeStage {
 public:
  void Push(std::string_view fragment, bool ends_token, Sink& out) final {
    if (ends_token && token_.empty()) return Token(fragment, out);
    token_ += fragment;
    if (!ends_token) return;
    Token(token_, out);
    token_.clear();
  }

 protected:
  virtual void Token(std::string_view token, Sink& out) = 0;

 private:
  std::string token_;
};

// ---- No decoder

class JoinStage : public DecodeStage {
 public:
  void Push(std::string_view fragment, bool ends_token, Sink& out) override {
    if (!first_ && starts_) out.Accept(" ", false);
    first_ = false;
    starts_ = ends_token;
    out.Accept(fragment, ends_token);
  }

 private:
  bool first_ = true, starts_ = true;
};

class JoinStep : public DecodeStep {
 public:
  std::unique_ptr<DecodeStage> Start() const override { return std::make_unique<JoinStage>(); }
};

// ---- ByteLevel

std::string ByteLevelBytes(std::string_view token) {
  std::string bytes;
  if (!FromByteAlphabet(token, bytes)) bytes = token;  // an added token with other characters stands for itself
  return bytes;
}

class ByteLevelStage : public WholeTokenStage {
 public:
  void Finish(Sink& out) override {
    std::string text;
    stream_.Finish(text);
    out.Accept(text, true);
  }

 protected:
  void Token(std::string_view token, Sink& out) override {
    std::string text;
    stream_.Append(ByteLevelBytes(token), text);
    if (!text.empty()) out.Accept(text, false);
  }

 private:
  Utf8Stream stream_;
};

class ByteLevelStep : public DecodeStep {
 public:
  std::unique_ptr<DecodeStage> Start() const override { return std::make_unique<ByteLevelStage>(); }
  std::string Bytes(std::string_view token) const override { return ByteLevelBytes(token); }
  bool Fuses() const override { return true; }
};

// ---- Fuse

class FuseStage : public DecodeStage {
 public:
  void Push(std::string_view fragment, bool, Sink& out) override { out.Accept(fragment, false); }
  void Finish(Sink& out) override { out.Accept("", true); }
};

class FuseStep : public DecodeStep {
 public:
  std::unique_ptr<DecodeStage> Start() const override { return std::make_unique<FuseStage>(); }
  bool Fuses() const override { return true; }
};

// ---- ByteFallback

// The byte that a token of the form <0xNN> stands for, or -1. As u8::from_str_radix reads it: one sign '+' may stand in
// front of a single digit.
int FallbackByte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || !token.ends_with(">")) return -1;
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  const int high = token[3] == '+' ? 0 : digit(token[3]), low = digit(token[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

// A run of byte tokens is text only if all of it is valid UTF-8, and each of its bytes is one U+FFFD otherwise; so it
// can be decided no earlier than at its end.
class ByteFallbackStage : public WholeTokenStage {
 public:
  void Finish(Sink& out) override { EndRun(out); }

 protected:
  void Token(std::string_view token, Sink& out) override {
    const int byte = FallbackByte(token);
    if (byte >= 0) {
      run_ += static_cast<char>(byte);
      return;
    }
    EndRun(out);
    out.Accept(token, true);
  }

 private:
  void EndRun(Sink& out) {
    if (run_.empty()) return;
    const std::string run = std::exchange(run_, {});
    if (IsValidUtf8(run)) return out.Accept(run, true);
    for (size_t i = 0; i < run.size(); ++i) out.Accept(kReplacementCharacter, true);
  }
  std::string run_;
};

class ByteFallbackStep : public DecodeStep {
 public:
  std::unique_ptr<DecodeStage> Start() const override { return std::make_unique<ByteFallbackStage>(); }
  std::string Bytes(std::string_view token) const override {
    const int byte = FallbackByte(token);
    return byte < 0 ? std::string(token) : std::string(1, static_cast<char>(byte));
  }
};

// ---- Metaspace

class MetaspaceStep;
class MetaspaceStage : public DecodeStage {
 public:
  explicit MetaspaceStage(const MetaspaceStep& step) : step_(step) {}
  void Push(std::string_view fragment, bool ends_token, Sink& out) override;

 private:
  const MetaspaceStep& step_;
  bool first_ = true;
};

class MetaspaceStep : public StepWith<MetaspaceStep, MetaspaceStage> {
 public:
  MetaspaceStep(std::string replacement, bool prepends) : replacement_(std::move(replacement)), prepends_(prepends) {}
  std::string Bytes(std::string_view token) const override { return Spaced(token, " "); }
  std::string First(std::string_view token) const { return Spaced(token, prepends_ ? "" : " "); }

 private:
  std::string Spaced(std::string_view token, std::string_view space) const {
    std::string text;
    for (size_t at = 0;;) {
      const size_t found = token.find(replacement_, at);
      text += token.substr(at, found - at);
      if (found == std::string_view::npos) return text;
      text += space;
      at = found + replacement_.size();
    }
  }
  std::string replacement_;
  bool prepends_;
};

void MetaspaceStage::Push(std::string_view fragment, bool ends_token, Sink& out) {
  out.Accept(first_ ? step_.First(fragment) : step_.Bytes(fragment), ends_token);
  if (ends_token) first_ = false;
}

absl::StatusOr<std::unique_ptr<const DecodeStep>> ParseMetaspace(const JsonView& json) {
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
  return std::make_unique<MetaspaceStep>(replacement, scheme != "never");
}

// ---- Replace

class ReplaceStep;

// In fragments of a fused token an occurrence may be cut in two: hold back the longest tail that could begin one.
class ReplaceStage : public DecodeStage {
 public:
  explicit ReplaceStage(const ReplaceStep& step) : step_(step) {}
  void Push(std::string_view fragment, bool ends_token, Sink& out) override;

 private:
  const ReplaceStep& step_;
  std::string held_;
};

class ReplaceStep : public StepWith<ReplaceStep, ReplaceStage> {
 public:
  ReplaceStep(std::string literal, std::unique_ptr<const Regex> regex, std::string content)
      : literal_(std::move(literal)), regex_(std::move(regex)), content_(std::move(content)) {}
  std::string Bytes(std::string_view token) const override { return Replaced(token); }

  std::string Replaced(std::string_view text) const {
    std::vector<Match> parts;
    // A vocabulary's token is short and a fragment no longer: running into the step limit means the pattern is absurd.
    if (regex_ == nullptr || !IsValidUtf8(text) || !regex_->Partition(text, parts).ok()) return std::string(text);
    std::string out;
    for (const Match& part : parts) out += part.is_match ? content_ : text.substr(part.begin, part.end - part.begin);
    return out;
  }

  // Where the text may be cut because no occurrence of the literal that is still incomplete starts earlier.
  size_t CertainPrefix(std::string_view text) const {
    if (literal_.size() <= 1) return text.size();
    // Walk over complete occurrences first: what is inside one cannot begin another.
    size_t from = 0;
    for (size_t found; (found = text.find(literal_, from)) != std::string_view::npos;) from = found + literal_.size();
    const size_t longest = std::min(literal_.size() - 1, text.size() - from);
    for (size_t n = longest; n > 0; --n) {
      if (std::string_view(literal_).starts_with(text.substr(text.size() - n))) return text.size() - n;
    }
    return text.size();
  }

 private:
  std::string literal_;  // empty when the pattern is a regex
  std::unique_ptr<const Regex> regex_;
  std::string content_;
};

void ReplaceStage::Push(std::string_view fragment, bool ends_token, Sink& out) {
  if (ends_token && held_.empty()) return out.Accept(step_.Replaced(fragment), true);
  held_ += fragment;
  const size_t certain = ends_token ? held_.size() : step_.CertainPrefix(held_);
  const std::string text = held_.substr(0, certain);
  held_.erase(0, certain);
  out.Accept(step_.Replaced(text), ends_token);
}

absl::StatusOr<std::unique_ptr<const DecodeStep>> ParseReplace(const JsonView& json, bool fused) {
  HYSPARSE_ASSIGN_OR_RETURN(const std::string content, json.String("content"));
  HYSPARSE_ASSIGN_OR_RETURN(const JsonView pattern, json.Object("pattern"));
  if (pattern.Has("String")) {
    HYSPARSE_ASSIGN_OR_RETURN(const std::string literal, pattern.String("String"));
    auto regex = Regex::CompileLiteral(literal);
    if (!regex.ok()) return pattern.At(regex.status());
    return std::make_unique<ReplaceStep>(literal, std::move(*regex), content);
  }
  HYSPARSE_ASSIGN_OR_RETURN(const std::string expression, pattern.String("Regex"));
  if (fused) return json.Error("a regex after a step that fuses all tokens is not supported");
  auto regex = Regex::Compile(expression);
  if (!regex.ok()) return pattern.At(regex.status());
  return std::make_unique<ReplaceStep>("", std::move(*regex), content);
}

// ---- Strip

class StripStep;

// Takes up to `start` characters off a token's start and up to `stop` off its end; the latter are held back until the
// token ends.
class StripStage : public DecodeStage {
 public:
  explicit StripStage(const StripStep& step) : step_(step) {}
  void Push(std::string_view fragment, bool ends_token, Sink& out) override;

 private:
  const StripStep& step_;
  bool at_start_ = true;
  int64_t stripped_ = 0;
  int64_t held_ = 0;  // copies of the character at the token's end so far, not passed on
};

class StripStep : public StepWith<StripStep, StripStage> {
 public:
  StripStep(std::string content, int64_t start, int64_t stop)
      : content_(std::move(content)), start_(start), stop_(stop) {}
  const std::string content_;
  const int64_t start_, stop_;
};

void StripStage::Push(std::string_view fragment, bool ends_token, Sink& out) {
  const std::string& content = step_.content_;
  std::string text;
  while (!fragment.empty()) {
    const std::string_view character = fragment.substr(0, Utf8Length(fragment[0]));
    fragment.remove_prefix(character.size());
    const bool strippable = character == content;
    if (strippable && at_start_ && stripped_ < step_.start_) {
      ++stripped_;
      continue;
    }
    at_start_ = false;
    if (strippable && step_.stop_ > 0) {
      if (++held_ <= step_.stop_) continue;
      held_ = step_.stop_;
      text += content;
      continue;
    }
    for (; held_ > 0; --held_) text += content;
    text += character;
  }
  if (ends_token) {
    at_start_ = true;
    stripped_ = held_ = 0;
  }
  out.Accept(text, ends_token);
}

absl::StatusOr<std::unique_ptr<const DecodeStep>> ParseStrip(const JsonView& json) {
  HYSPARSE_ASSIGN_OR_RETURN(const std::string content, json.String("content"));
  if (content.empty() || Utf8Length(content[0]) != content.size()) return json.Error("'content' must be one character");
  HYSPARSE_ASSIGN_OR_RETURN(const int64_t start, json.Integer("start"));
  HYSPARSE_ASSIGN_OR_RETURN(const int64_t stop, json.Integer("stop"));
  if (start < 0 || stop < 0 || stop > 1024) return json.Error("'start' and 'stop' must be small and not negative");
  return std::make_unique<StripStep>(content, start, stop);
}

}  // namespace

std::unique_ptr<const DecodeStep> JoinBySpaces() { return std::make_unique<JoinStep>(); }

absl::StatusOr<std::unique_ptr<const DecodeStep>> ParseDecodeStep(const JsonView& json, bool fused) {
  HYSPARSE_ASSIGN_OR_RETURN(const std::string type, json.Type());
  if (type == "ByteLevel") return std::make_unique<ByteLevelStep>();
  if (type == "Fuse") return std::make_unique<FuseStep>();
  if (type == "ByteFallback") return std::make_unique<ByteFallbackStep>();
  if (type == "Metaspace") return ParseMetaspace(json);
  if (type == "Replace") return ParseReplace(json, fused);
  if (type == "Strip") return ParseStrip(json);
  return json.Error(absl::StrCat("a decoder of type '", type, "' is not supported"));
}

}  // namespace hysparse
