#include "engine/text/regex_syntax.h"

#include <cctype>
#include <cstddef>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/result.h"
#include "engine/text/string_view.h"
#include "engine/text/unicode_properties.h"
#include "engine/text/utf8.h"

namespace hysparse {
namespace {

constexpr std::string_view kSpaceSet =
    R"(\x09-\x0d\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr std::string_view kHexSet = "0-9A-Fa-f";

class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  absl::StatusOr<std::string> Run() {
    while (at_ < in_.size()) HYSPARSE_RETURN_IF_ERROR(Item());
    return std::move(out_);
  }

 private:
  absl::Status Unsupported(std::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat("the pattern uses ", View(what), " (at byte ", at_, "), which is not supported"));
  }
  char Peek(size_t ahead = 0) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }
  bool Take(std::string_view text) {
    if (in_.substr(at_, text.size()) != text) return false;
    at_ += text.size();
    return true;
  }

  // One atom, quantifier, group bracket or anchor of the pattern.
  absl::Status Item() {
    const char c = in_[at_];
    switch (c) {
      case '\\':
        atom_ = out_.size();
        return Escape();
      case '[':
        atom_ = out_.size();
        return Class();
      case '(':
        return OpenGroup();
      case ')':
        return CloseGroup();
      case '{':
        return Interval();
      case '*':
      case '+':
      case '?':
      case '|':
        out_ += c;
        ++at_;
        return absl::OkStatus();
      default:
        atom_ = out_.size();
        out_.append(in_.substr(at_, Utf8Length(c)));
        at_ += Utf8Length(c);
        return absl::OkStatus();
    }
  }

  absl::Status OpenGroup() {
    groups_.push_back(out_.size());
    for (const std::string_view prefix : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"}) {
      if (Take(prefix)) {
        out_ += prefix;
        return absl::OkStatus();
      }
    }
    if (Peek(1) == '?') return Options();
    out_ += "(?:";  // captures have no meaning here
    ++at_;
    return absl::OkStatus();
  }

  // (?imx-imx:…), and (?i) at the very start, where both dialects apply it to the whole pattern.
  absl::Status Options() {
    const size_t start = at_;
    std::string options = "(?";
    for (at_ += 2; Peek() == 'i' || Peek() == 'm' || Peek() == 'x' || Peek() == '-'; ++at_) {
      options += Peek() == 'm' ? 's' : Peek();
    }
    if (Peek() == ')' && start == 0) {
      groups_.pop_back();
    } else if (Peek() != ':') {
      at_ = start;
      return Unsupported("a group of the kind (?" + std::string(1, Peek(2)));
    }
    out_ += options + in_[at_++];
    return absl::OkStatus();
  }

  absl::Status CloseGroup() {
    if (groups_.empty()) return absl::InvalidArgumentError("the pattern closes a group that it never opened");
    atom_ = groups_.back();
    groups_.pop_back();
    out_ += ')';
    ++at_;
    return absl::OkStatus();
  }

  // {n}, {n,}, {,m}, {n,m}; anything else is a literal brace.
  absl::Status Interval() {
    size_t i = at_ + 1;
    const auto number = [&] {
      const size_t begin = i;
      while (i < in_.size() && std::isdigit(static_cast<unsigned char>(in_[i]))) ++i;
      return std::string(in_.substr(begin, i - begin));
    };
    const std::string low = number();
    const bool comma = i < in_.size() && in_[i] == ',';
    if (comma) ++i;
    const std::string high = comma ? number() : low;
    if (i >= in_.size() || in_[i] != '}' || (low.empty() && high.empty())) {
      atom_ = out_.size();
      out_ += "\\{";
      ++at_;
      return absl::OkStatus();
    }
    at_ = i + 1;
    if (!comma && Peek() == '?') return Unsupported("{n}?");
    out_ += absl::StrCat("{", low.empty() ? "0" : low, comma ? "," : "", comma ? high : "", "}");
    if (Peek() == '+') {
      out_.insert(atom_, "(?:");
      out_ += ")";
    }
    return absl::OkStatus();
  }

  // A set of characters: the inside of a class, or what it leaves out.
  struct Set {
    std::string members;
    bool negated;
  };

  bool AtSet() const { return Peek() == '\\' && Peek(1) != '\0' && std::strchr("sSwWdDhHpP", Peek(1)) != nullptr; }

  // \s \w \d \h \p{Name} \p{^Name}, and their complements in capitals.
  absl::StatusOr<Set> ParseSet() {
    const char letter = Peek(1);
    if (letter == 'p' || letter == 'P') return ParseProperty();
    at_ += 2;
    const bool negated = std::isupper(static_cast<unsigned char>(letter));
    switch (std::tolower(static_cast<unsigned char>(letter))) {
      case 's':
        return Set{std::string(kSpaceSet), negated};
      case 'w':
        return Set{WordMembers(), negated};
      case 'd':
        return Set{*PropertyMembers("Nd"), negated};
      default:
        return Set{std::string(kHexSet), negated};
    }
  }

  absl::StatusOr<Set> ParseProperty() {
    const size_t open = at_ + 2;
    const size_t close = Peek(2) == '{' ? in_.find('}', open) : std::string_view::npos;
    if (close == std::string_view::npos) {
      return absl::InvalidArgumentError(absl::StrCat("the pattern has a broken \\p at byte ", at_));
    }
    std::string_view name = in_.substr(open + 1, close - open - 1);
    const bool circumflex = name.starts_with('^');
    if (circumflex) name.remove_prefix(1);
    bool negated = (Peek(1) == 'P') != circumflex;
    std::optional<std::string> members;
    if (name == "C" || name == "Cn") {  // what is in no other category
      members.emplace();
      for (const std::string_view other : {"L", "M", "N", "P", "S", "Z"}) *members += *PropertyMembers(other);
      if (name == "Cn") *members += "\\p{Cc}\\p{Co}\\p{Cs}" + *PropertyMembers("Cf");
      negated = !negated;
    } else {
      members = PropertyMembers(name);
    }
    if (!members.has_value()) return Unsupported(absl::StrCat("the property '", View(name), "'"));
    at_ = close + 1;
    return Set{*std::move(members), negated};
  }

  absl::Status Escape() {
    if (AtSet()) {
      HYSPARSE_ASSIGN_OR_RETURN(const Set set, ParseSet());
      out_ += absl::StrCat(set.negated ? "[^" : "[", set.members, "]");
      return absl::OkStatus();
    }
    const char c = Peek(1);
    if (c == 'b' || c == 'B') return WordBoundary(c == 'b');
    if (c == 'A' || c == 'z' || c == 'Z' || c == 'G') {
      out_.append(in_.substr(at_, 2));
      at_ += 2;
      return absl::OkStatus();
    }
    return LiteralEscape(out_);
  }

  // An escape that stands for one character, in or outside a class.
  absl::Status LiteralEscape(std::string& out) {
    if (at_ + 1 >= in_.size()) return absl::InvalidArgumentError("the pattern ends in a backslash");
    const char c = in_[at_ + 1];
    if (c == 'x' || c == 'u') return CodePoint(out);
    if (c == 'v') {
      out += "\\x0b";
    } else if (std::strchr("tnrfae", c) != nullptr) {
      out.append(in_.substr(at_, 2));
    } else if (std::isalnum(static_cast<unsigned char>(c))) {
      return Unsupported(absl::StrCat("\\", std::string(1, c)));
    } else {
      out += '\\';
      out.append(in_.substr(at_ + 1, Utf8Length(c)));
      at_ += Utf8Length(c) - 1;
    }
    at_ += 2;
    return absl::OkStatus();
  }

  absl::Status WordBoundary(bool boundary) {
    const std::string word = absl::StrCat("[", WordMembers(), "]");
    const std::string same = absl::StrCat("(?:(?<=", word, ")(?=", word, ")|(?<!", word, ")(?!", word, "))");
    const std::string edge = absl::StrCat("(?:(?<=", word, ")(?!", word, ")|(?<!", word, ")(?=", word, "))");
    out_ += boundary ? edge : same;
    at_ += 2;
    return absl::OkStatus();
  }

  // \xHH, \x{H…}, \uHHHH
  absl::Status CodePoint(std::string& out) {
    const bool braces = Peek(1) == 'x' && Peek(2) == '{';
    size_t i = at_ + (braces ? 3 : 2);
    const size_t begin = i, most = braces ? 6 : Peek(1) == 'x' ? 2 : 4;
    while (i < in_.size() && i - begin < most && std::isxdigit(static_cast<unsigned char>(in_[i]))) ++i;
    const std::string digits(in_.substr(begin, i - begin));
    if (digits.empty() || (braces && (i >= in_.size() || in_[i] != '}')) || (Peek(1) == 'u' && digits.size() != 4)) {
      return absl::InvalidArgumentError(absl::StrCat("the pattern has a broken \\x or \\u escape at byte ", at_));
    }
    out += absl::StrCat("\\x{", digits, "}");
    at_ = i + (braces ? 1 : 0);
    return absl::OkStatus();
  }

  // PCRE2 10.42 cannot leave a set out of a class's inside, so a class with negated sets becomes a group of classes.
  absl::Status Class() {
    ++at_;
    const bool negated = Take("^");
    if (Peek() == ']') return Unsupported("a class that starts with ']'");
    std::string members;
    std::vector<std::string> complements;
    while (Peek() != ']') {
      if (at_ >= in_.size()) return absl::InvalidArgumentError("the pattern has a class that never ends");
      if (Peek() == '[') return Unsupported(Peek(1) == ':' ? "a POSIX bracket" : "a class inside a class");
      if (Peek() == '&' && Peek(1) == '&') return Unsupported("&&");
      if (AtSet()) {
        HYSPARSE_ASSIGN_OR_RETURN(Set set, ParseSet());
        if (set.negated) {
          complements.push_back(std::move(set.members));
        } else {
          members += set.members;
        }
      } else if (Peek() == '\\') {
        HYSPARSE_RETURN_IF_ERROR(LiteralEscape(members));
      } else {
        const size_t length = Utf8Length(Peek());
        members.append(in_.substr(at_, length));
        at_ += length;
      }
    }
    ++at_;
    if (complements.empty()) {
      out_ += absl::StrCat(negated ? "[^" : "[", members, "]");
      return absl::OkStatus();
    }
    std::string alternatives = members.empty() ? "" : absl::StrCat("[", members, "]|");
    for (const std::string& complement : complements) absl::StrAppend(&alternatives, "[^", complement, "]|");
    alternatives.pop_back();
    out_ += negated ? absl::StrCat("(?:(?!", alternatives, ")(?s:.))") : absl::StrCat("(?:", alternatives, ")");
    return absl::OkStatus();
  }

  std::string_view in_;
  size_t at_ = 0;
  std::string out_;
  size_t atom_ = 0;             // where in out_ the last atom starts
  std::vector<size_t> groups_;  // where in out_ the open groups start
};

}  // namespace

absl::StatusOr<std::string> TranslateOniguruma(std::string_view pattern) {
  if (!IsValidUtf8(pattern)) return absl::InvalidArgumentError("the pattern is not valid UTF-8");
  return Translator(pattern).Run();
}

}  // namespace hysparse
