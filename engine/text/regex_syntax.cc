#include "engine/text/regex_syntax.h"

#include <cctype>
#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/result.h"
#include "engine/text/string_view.h"
#include "engine/text/utf8.h"

namespace hysparse {
namespace {

constexpr std::string_view kSpaceSet =
    R"(\x09-\x0d\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr std::string_view kNotSpaceSet =
    R"(\x{0}-\x08\x0e-\x1f\x21-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027}\x{202a}-\x{202e})"
    R"(\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";
constexpr std::string_view kWordSet = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
constexpr std::string_view kHexSet = "0-9A-Fa-f";
constexpr std::string_view kNotHexSet = R"(\x{0}-/:-@G-`g-\x{10ffff})";

std::string Quoted(std::string_view text) { return absl::StrCat("'", View(text), "'"); }

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
        return Escape(/*in_class=*/false);
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

  absl::Status Escape(bool in_class) {
    if (at_ + 1 >= in_.size()) return absl::InvalidArgumentError("the pattern ends in a backslash");
    const char c = in_[at_ + 1];
    const auto set = [&](std::string_view members, bool negated) {
      out_ += in_class ? std::string(members) : absl::StrCat(negated ? "[^" : "[", View(members), "]");
      at_ += 2;
      return absl::OkStatus();
    };
    const auto literal = [&](std::string_view text) {
      out_ += text;
      at_ += 2;
      return absl::OkStatus();
    };
    switch (c) {
      case 's':
        return set(kSpaceSet, false);
      case 'w':
        return set(kWordSet, false);
      case 'h':
        return set(kHexSet, false);
      case 'd':
        return set("\\p{Nd}", false);
      case 'S':
        return set(kNotSpaceSet, false);
      case 'H':
        return set(kNotHexSet, false);
      case 'W':
        if (in_class) return Unsupported("\\W inside a class");
        return set(kWordSet, true);
      case 'D':
        return in_class ? literal("\\P{Nd}") : set("\\p{Nd}", true);
      case 'p':
      case 'P':
        return Property(in_class);
      case 'v':
        return literal("\\x0b");
      case 't':
      case 'n':
      case 'r':
      case 'f':
      case 'a':
      case 'e':
        return literal(in_.substr(at_, 2));
      case 'x':
      case 'u':
        return CodePoint();
      case 'b':
      case 'B':
        if (in_class) return c == 'b' ? literal("\\x08") : Unsupported("\\B inside a class");
        return WordBoundary(c == 'b');
      case 'A':
      case 'z':
      case 'Z':
      case 'G':
        if (in_class) return Unsupported(std::string("\\") + c + " inside a class");
        return literal(in_.substr(at_, 2));
      default:
        if (std::isalnum(static_cast<unsigned char>(c))) return Unsupported(std::string("\\") + c);
        out_ += '\\';
        out_.append(in_.substr(at_ + 1, Utf8Length(c)));
        at_ += 1 + Utf8Length(c);
        return absl::OkStatus();
    }
  }

  absl::Status WordBoundary(bool boundary) {
    const std::string word = absl::StrCat("[", View(kWordSet), "]");
    const std::string same = absl::StrCat("(?:(?<=", word, ")(?=", word, ")|(?<!", word, ")(?!", word, "))");
    const std::string edge = absl::StrCat("(?:(?<=", word, ")(?!", word, ")|(?<!", word, ")(?=", word, "))");
    out_ += boundary ? edge : same;
    at_ += 2;
    return absl::OkStatus();
  }

  // \xHH, \x{H…}, \uHHHH
  absl::Status CodePoint() {
    const bool braces = Peek(1) == 'x' && Peek(2) == '{';
    size_t i = at_ + (braces ? 3 : 2);
    const size_t begin = i, most = braces ? 6 : Peek(1) == 'x' ? 2 : 4;
    while (i < in_.size() && i - begin < most && std::isxdigit(static_cast<unsigned char>(in_[i]))) ++i;
    const std::string digits(in_.substr(begin, i - begin));
    if (digits.empty() || (braces && (i >= in_.size() || in_[i] != '}')) || (Peek(1) == 'u' && digits.size() != 4)) {
      return absl::InvalidArgumentError(absl::StrCat("the pattern has a broken \\x or \\u escape at byte ", at_));
    }
    out_ += absl::StrCat("\\x{", digits, "}");
    at_ = i + (braces ? 1 : 0);
    return absl::OkStatus();
  }

  // \p{Name}, \p{^Name}, \P{Name}
  absl::Status Property(bool in_class) {
    const size_t open = at_ + 2;
    const size_t close = open < in_.size() && in_[open] == '{' ? in_.find('}', open) : std::string_view::npos;
    if (close == std::string_view::npos)
      return absl::InvalidArgumentError(absl::StrCat("the pattern has a broken \\p at byte ", at_));
    std::string name(in_.substr(open + 1, close - open - 1));
    bool negated = in_[at_ + 1] == 'P';
    if (!name.empty() && name[0] == '^') {
      negated = !negated;
      name.erase(0, 1);
    }
    HYSPARSE_ASSIGN_OR_RETURN(const PropertySet set, LookUpProperty(name));
    if (!negated) {
      out_ += in_class ? set.members : absl::StrCat("[", set.members, "]");
    } else if (!in_class) {
      out_ += absl::StrCat("[^", set.members, "]");
    } else if (set.exact) {
      out_ += set.negated;
    } else {
      return Unsupported("a negated property inside a class");
    }
    at_ = close + 1;
    return absl::OkStatus();
  }

  struct PropertySet {
    std::string members;  // for inside a class
    std::string negated;  // the complement for inside a class, when `exact`
    bool exact;
  };

  absl::StatusOr<PropertySet> LookUpProperty(const std::string& name) const {
    for (const char c : name) {
      if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_') return Unsupported("the property " + Quoted(name));
    }
    const bool category = name.size() <= 2;
    static constexpr std::string_view kBinary[] = {"Alphabetic", "Lowercase",   "Uppercase",
                                                   "Emoji",      "White_Space", "Any"};
    bool plain = category;
    for (const std::string_view binary : kBinary) plain |= name == binary;
    const std::string spelt = plain ? name : "sc:" + name;
    return PropertySet{absl::StrCat("\\p{", spelt, "}"), absl::StrCat("\\P{", spelt, "}"), true};
  }

  absl::Status Class() {
    out_ += '[';
    ++at_;
    if (Take("^")) out_ += '^';
    if (Peek() == ']') return Unsupported("a class that starts with ']'");
    while (Peek() != ']') {
      if (at_ >= in_.size()) return absl::InvalidArgumentError("the pattern has a class that never ends");
      if (Peek() == '[') return Unsupported(Peek(1) == ':' ? "a POSIX bracket" : "a class inside a class");
      if (Peek() == '&' && Peek(1) == '&') return Unsupported("&&");
      if (Peek() == '\\') {
        HYSPARSE_RETURN_IF_ERROR(Escape(/*in_class=*/true));
        continue;
      }
      const size_t length = Utf8Length(Peek());
      out_.append(in_.substr(at_, length));
      at_ += length;
    }
    out_ += ']';
    ++at_;
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
