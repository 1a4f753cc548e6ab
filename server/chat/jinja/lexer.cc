#include "server/chat/jinja/lexer.h"

#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/str_replace.h"
#include "engine/base/result.h"
#include "server/chat/jinja/cat.h"
#include "server/chat/jinja/escapes.h"
#include "server/chat/jinja/unicode.h"

namespace hysparse::jinja {

absl::Status SyntaxError(int line, std::string_view what) {
  return absl::InvalidArgumentError(Cat("line ", line, ": ", what));
}

namespace {

constexpr std::array<std::string_view, 27> kOperators = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                         "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                         ">",  "<",  "=",  ".",  ":",  "|",  ",", ";", ""};

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  absl::StatusOr<std::vector<Token>> Run() {
    while (at_ < source_.size()) HYSPARSE_RETURN_IF_ERROR(Root());
    tokens_.push_back({TokenKind::kEnd, "", line_});
    return std::move(tokens_);
  }

 private:
  bool Looking(std::string_view text) const { return source_.compare(at_, text.size(), text) == 0; }
  void Advance(size_t to) {
    line_ += static_cast<int>(std::count(source_.begin() + at_, source_.begin() + to, '\n'));
    if (to > at_) line_starting_ = source_[to - 1] == '\n';
    at_ = to;
  }
  // The offset behind whitespace (Python's \s) at or after `from`.
  size_t SkipSpace(size_t from) const {
    while (from < source_.size()) {
      const CodePoint c = DecodeAt(source_, from);
      if (!IsSpace(c.value)) break;
      from += c.size;
    }
    return from;
  }
  // The offset behind a tag's end whose closing characters are `close`, or npos; at `from` may stand a sign.
  size_t TagEnd(size_t from, std::string_view close, bool variable) const {
    if (!variable && source_[from] == '+' && source_.compare(from + 1, 2, close) == 0) return from + 3;
    if (source_[from] == '-' && source_.compare(from + 1, 2, close) == 0) return SkipSpace(from + 3);
    if (source_.compare(from, 2, close) != 0) return std::string::npos;
    return from + 2 + (!variable && from + 2 < source_.size() && source_[from + 2] == '\n' ? 1 : 0);
  }

  absl::Status Root();
  absl::Status Comment();
  absl::Status Raw(size_t body);
  absl::Status Tag(bool variable);
  absl::Status TagToken(std::vector<char>& open);
  absl::Status Quoted();
  void Number(size_t end, bool is_float);
  size_t NumberEnd(bool* is_float) const;
  size_t RawBegin(size_t tag) const;
  size_t RawEnd(size_t tag, char* sign) const;
  void Data(size_t end, char sign, bool variable);
  void Emit(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }

  const std::string source_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

// Emits source_[at_, end) as data, stripped as the tag that follows demands.
void Lexer::Data(size_t end, char sign, bool variable) {
  std::string_view text = std::string_view(source_).substr(at_, end - at_);
  if (sign == '-') {
    text = text.substr(0, RightStripped(text));
  } else if (sign != '+' && !variable) {
    const size_t newline = text.rfind('\n');
    const size_t begin = newline == std::string_view::npos ? 0 : newline + 1;
    const bool at_line_start = begin > 0 || line_starting_;
    if (at_line_start && RightStripped(text.substr(begin)) == 0) text = text.substr(0, begin);
  }
  if (!text.empty()) Emit(TokenKind::kData, std::string(text));
}

absl::Status Lexer::Root() {
  size_t tag = at_;
  while ((tag = source_.find('{', tag)) != std::string::npos) {
    const char next = tag + 1 < source_.size() ? source_[tag + 1] : '\0';
    if (next == '%' || next == '{' || next == '#') break;
    ++tag;
  }
  if (tag == std::string::npos) {
    Emit(TokenKind::kData, source_.substr(at_));
    Advance(source_.size());
    return absl::OkStatus();
  }
  const bool variable = source_[tag + 1] == '{';
  const char after = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
  const char sign = after == '-' || after == '+' ? after : '\0';
  Data(tag, sign, variable);
  const size_t raw = RawBegin(tag);
  const char type = source_[tag + 1];
  Advance(tag);
  if (raw != std::string::npos) return Raw(raw);
  Advance(tag + 2 + (sign != '\0'));
  if (type == '#') return Comment();
  return Tag(variable);
}

absl::Status Lexer::Comment() {
  const size_t close = source_.find("#}", at_);
  if (close == std::string::npos) return SyntaxError(line_, "Missing end of comment tag");
  const bool sign = close > at_ && (source_[close - 1] == '-' || source_[close - 1] == '+');
  Advance(TagEnd(close - sign, "#}", false));
  return absl::OkStatus();
}

// "{% raw %}" at `tag`: the offset of its body, else npos. The newline behind it is kept.
size_t Lexer::RawBegin(size_t tag) const {
  if (source_[tag + 1] != '%') return std::string::npos;
  size_t i = tag + 2;
  if (i < source_.size() && (source_[i] == '-' || source_[i] == '+')) ++i;
  i = SkipSpace(i);
  if (source_.compare(i, 3, "raw") != 0) return std::string::npos;
  i = SkipSpace(i + 3);
  if (source_.compare(i, 3, "-%}") == 0) return SkipSpace(i + 3);
  return source_.compare(i, 2, "%}") == 0 ? i + 2 : std::string::npos;
}

size_t Lexer::RawEnd(size_t tag, char* sign) const {
  size_t i = tag + 2;
  *sign = '\0';
  if (i < source_.size() && (source_[i] == '-' || source_[i] == '+')) *sign = source_[i++];
  i = SkipSpace(i);
  if (source_.compare(i, 6, "endraw") != 0) return std::string::npos;
  i = SkipSpace(i + 6);
  return i < source_.size() ? TagEnd(i, "%}", false) : std::string::npos;
}

absl::Status Lexer::Raw(size_t body) {
  Advance(body);
  for (size_t tag = at_; (tag = source_.find("{%", tag)) != std::string::npos; ++tag) {
    char sign;
    const size_t end = RawEnd(tag, &sign);
    if (end == std::string::npos) continue;
    Data(tag, sign, false);
    Advance(end);
    return absl::OkStatus();
  }
  return SyntaxError(line_, "Missing end of raw directive");
}

absl::Status Lexer::Tag(bool variable) {
  Emit(variable ? TokenKind::kVariableBegin : TokenKind::kBlockBegin, "");
  const std::string_view close = variable ? "}}" : "%}";
  std::vector<char> open;
  while (at_ < source_.size()) {
    if (open.empty()) {
      const size_t end = TagEnd(at_, close, variable);
      if (end != std::string::npos) {
        Emit(variable ? TokenKind::kVariableEnd : TokenKind::kBlockEnd, "");
        Advance(end);
        return absl::OkStatus();
      }
    }
    HYSPARSE_RETURN_IF_ERROR(TagToken(open));
  }
  return absl::OkStatus();  // the parser finds the template unfinished
}

absl::Status Lexer::TagToken(std::vector<char>& open) {
  const size_t space = SkipSpace(at_);
  if (space > at_) {
    Advance(space);
    return absl::OkStatus();
  }
  const char c = source_[at_];
  if (absl::ascii_isdigit(c)) {
    bool is_float;
    const size_t end = NumberEnd(&is_float);
    Number(end, is_float);
    return absl::OkStatus();
  }
  if (absl::ascii_isalpha(c) || c == '_' || static_cast<unsigned char>(c) >= 0x80) {
    size_t end = at_;
    while (end < source_.size()) {
      const CodePoint next = DecodeAt(source_, end);
      if (!IsWordCharacter(next.value)) break;
      end += next.size;
    }
    if (end == at_) return SyntaxError(line_, Cat("unexpected char at byte ", at_));
    Emit(TokenKind::kName, source_.substr(at_, end - at_));
    Advance(end);
    return absl::OkStatus();
  }
  if (c == '"' || c == '\'') return Quoted();
  const auto op = std::find_if(kOperators.begin(), kOperators.end(), [this](auto text) { return Looking(text); });
  if (op->empty()) return SyntaxError(line_, Cat("unexpected char '", std::string(1, c), "'"));
  if (c == '(' || c == '[' || c == '{') open.push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
  if (c == ')' || c == ']' || c == '}') {
    if (open.empty()) return SyntaxError(line_, Cat("unexpected '", *op, "'"));
    if (open.back() != c) {
      return SyntaxError(line_, Cat("unexpected '", *op, "', expected '", std::string(1, open.back()), "'"));
    }
    open.pop_back();
  }
  Emit(TokenKind::kOperator, std::string(*op));
  Advance(at_ + op->size());
  return absl::OkStatus();
}

absl::Status Lexer::Quoted() {
  size_t end = at_ + 1;
  while (end < source_.size() && source_[end] != source_[at_]) end += source_[end] == '\\' ? 2 : 1;
  if (end >= source_.size()) return SyntaxError(line_, "a string has no end");
  auto text = Unescape(std::string_view(source_).substr(at_ + 1, end - at_ - 1));
  if (!text.ok()) return SyntaxError(line_, std::string(text.status().message()));
  Emit(TokenKind::kString, *std::move(text));
  Advance(end + 1);
  return absl::OkStatus();
}

// Digits with single underscores between them, from `from`; `digit` tells what a digit is.
size_t Digits(std::string_view s, size_t from, bool (*digit)(unsigned char)) {
  size_t end = from;
  while (end < s.size()) {
    if (digit(s[end])) {
      ++end;
    } else if (s[end] == '_' && end > from && end + 1 < s.size() && digit(s[end + 1])) {
      ++end;
    } else {
      break;
    }
  }
  return end;
}

bool Decimal(unsigned char c) { return absl::ascii_isdigit(c); }
bool Zero(unsigned char c) { return c == '0'; }
bool Hex(unsigned char c) { return absl::ascii_isxdigit(c); }
bool Octal(unsigned char c) { return c >= '0' && c <= '7'; }
bool Binary(unsigned char c) { return c == '0' || c == '1'; }

size_t Lexer::NumberEnd(bool* is_float) const {
  const std::string_view s = source_;
  size_t end = Digits(s, at_, Decimal);
  // A number directly behind a dot ("x.0.1") is an index, never a float.
  *is_float = false;
  if (at_ == 0 || s[at_ - 1] != '.') {
    size_t f = end;
    if (f + 1 < s.size() && s[f] == '.' && Decimal(s[f + 1])) {
      f = Digits(s, f + 1, Decimal);
      *is_float = true;
    }
    if (f < s.size() && (s[f] == 'e' || s[f] == 'E')) {
      size_t e = f + 1;
      if (e < s.size() && (s[e] == '+' || s[e] == '-')) ++e;
      const size_t exponent = Digits(s, e, Decimal);
      if (exponent > e) {
        f = exponent;
        *is_float = true;
      }
    }
    if (*is_float) return f;
  }
  if (s[at_] != '0') return end;
  const char base = at_ + 1 < s.size() ? absl::ascii_tolower(s[at_ + 1]) : '\0';
  bool (*digit)(unsigned char) = base == 'x' ? Hex : base == 'o' ? Octal : base == 'b' ? Binary : nullptr;
  if (digit != nullptr) {
    const size_t first = at_ + 2 + (at_ + 2 < s.size() && s[at_ + 2] == '_');
    const size_t stop = Digits(s, first, digit);
    if (stop > first) return stop;
  }
  return Digits(s, at_, Zero);
}

void Lexer::Number(size_t end, bool is_float) {
  std::string text = source_.substr(at_, end - at_);
  text.erase(std::remove(text.begin(), text.end(), '_'), text.end());
  Emit(is_float ? TokenKind::kFloat : TokenKind::kInteger, std::move(text));
  Advance(end);
}

}  // namespace

absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source) {
  std::string text = absl::StrReplaceAll(std::string(source), {{"\r\n", "\n"}, {"\r", "\n"}});
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return Lexer(std::move(text)).Run();
}

}  // namespace hysparse::jinja
