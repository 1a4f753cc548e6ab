#include "server/chat/jinja/format.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "engine/base/result.h"
#include "server/chat/jinja/cat.h"
#include "server/chat/jinja/operators.h"
#include "server/chat/jinja/print.h"
#include "server/chat/jinja/unicode.h"

namespace hysparse::jinja {
namespace {

constexpr int64_t kMaxWidth = 1 << 20;
constexpr int64_t kMaxPrecision = 300;

std::string InBase(Int value, int base, bool upper) {
  constexpr std::string_view kLower = "0123456789abcdef", kUpper = "0123456789ABCDEF";
  std::string digits;
  do {
    const auto digit = static_cast<size_t>(value % base);
    digits += (upper ? kUpper : kLower)[digit];
    value /= base;
  } while (value != 0);
  std::reverse(digits.begin(), digits.end());
  return digits;
}

std::string FixedDigits(double magnitude, const FormatSpec& spec) {
  if (std::isnan(magnitude)) return "nan";
  if (std::isinf(magnitude)) return "inf";
  const int precision = static_cast<int>(spec.precision < 0 ? 6 : spec.precision);
  switch (spec.type) {
    case 'e':
      return absl::StrFormat("%.*e", precision, magnitude);
    case 'E':
      return absl::StrFormat("%.*E", precision, magnitude);
    case 'g':
      return absl::StrFormat("%.*g", std::max(precision, 1), magnitude);
    case 'G':
      return absl::StrFormat("%.*G", std::max(precision, 1), magnitude);
    case '%':
      return absl::StrFormat("%.*f%%", precision, magnitude * 100);
    default:
      return absl::StrFormat("%.*f", precision, magnitude);
  }
}

void AddCommas(std::string* digits) {
  size_t end = 0;
  while (end < digits->size() && absl::ascii_isdigit((*digits)[end])) ++end;
  for (int64_t at = static_cast<int64_t>(end) - 3; at > 0; at -= 3) digits->insert(static_cast<size_t>(at), ",");
}

// Digits of |value|, prefix (0x) apart.
absl::StatusOr<std::string> Magnitude(const Value& number, const FormatSpec& spec, std::string* prefix) {
  const bool real_type = spec.type != '\0' && std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos;
  if (real_type) return FixedDigits(std::abs(number.real()), spec);
  if (number.is(Kind::kFloat)) {
    if (spec.type != '\0') return Error(Cat("Unknown format code '", std::string(1, spec.type), "' for a float"));
    if (spec.precision < 0) return PrintFloat(std::abs(number.real()));
    FormatSpec general = spec;
    general.type = 'g';
    std::string digits = FixedDigits(std::abs(number.real()), general);
    if (digits.find_first_not_of("0123456789") == std::string::npos) digits += ".0";
    return digits;
  }
  const Int value = number.integer() < 0 ? -number.integer() : number.integer();
  if (value < 0) return Error("integer result is too large");
  switch (spec.type) {
    case '\0':
    case 'd':
    case 'n':
      return PrintInt(value);
    case 'x':
    case 'X':
      if (spec.alternate) *prefix = spec.type == 'x' ? "0x" : "0X";
      return InBase(value, 16, spec.type == 'X');
    case 'o':
      if (spec.alternate) *prefix = "0o";
      return InBase(value, 8, false);
    case 'b':
      if (spec.alternate) *prefix = "0b";
      return InBase(value, 2, false);
    default:
      return Error(Cat("Unknown format code '", std::string(1, spec.type), "' for an integer"));
  }
}

}  // namespace

absl::StatusOr<std::string> FormatNumber(const Value& number, const FormatSpec& spec) {
  std::string prefix;
  HYSPARSE_ASSIGN_OR_RETURN(std::string digits, Magnitude(number, spec, &prefix));
  if (spec.comma) AddCommas(&digits);
  const bool negative = number.integral() ? number.integer() < 0 : std::signbit(number.real());
  std::string sign = negative ? "-" : spec.sign == '+' ? "+" : spec.sign == ' ' ? " " : "";
  sign += Cat(prefix);
  const auto size = static_cast<int64_t>(sign.size() + digits.size());
  if (spec.align != '=' || size >= spec.width) return Cat(sign, digits);
  std::string padding;
  for (int64_t i = size; i < spec.width; ++i) padding += spec.fill;
  return Cat(sign, padding, digits);
}

Text Pad(Text text, const FormatSpec& spec, char default_align) {
  const auto length = static_cast<int64_t>(Length(text.str()));
  if (length >= spec.width) return text;
  const char align = spec.align == '\0' ? default_align : spec.align;
  const int64_t missing = spec.width - length;
  const int64_t left = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  Text padded;
  for (int64_t i = 0; i < left; ++i) padded.Append(spec.fill, true);
  padded.Append(text);
  for (int64_t i = left; i < missing; ++i) padded.Append(spec.fill, true);
  return padded;
}

namespace {

// One run over a %-format: conversions take their values from a tuple, a dict, or the single argument.
class PercentFormatter {
 public:
  PercentFormatter(Heap& heap, const Text& format, const Value& args) : heap_(heap), format_(format), args_(args) {
    const List* list = args.as<List>();
    if (list != nullptr && list->type == Type::kTuple) tuple_ = list;
  }

  absl::StatusOr<Text> Run() {
    const std::string& s = format_.str();
    while (at_ < s.size()) {
      const size_t percent = std::min(s.find('%', at_), s.size());
      out_.Append(format_, at_, percent);
      at_ = percent;
      if (percent == s.size()) break;
      HYSPARSE_RETURN_IF_ERROR(Conversion());
      HYSPARSE_RETURN_IF_ERROR(heap_.Reserve(2 * out_.bytes()));
    }
    const bool leftover = tuple_ != nullptr ? used_ < tuple_->items.size() : used_ == 0 && !Mapping();
    if (leftover) return Error("not all arguments converted during string formatting");
    return std::move(out_);
  }

 private:
  bool Mapping() const {  // what Python lets pass unused: it can be subscripted and is neither tuple nor string
    return args_.undefined() || args_.as<Dict>() != nullptr || (args_.as<List>() != nullptr && tuple_ == nullptr) ||
           args_.as<Range>() != nullptr;
  }
  absl::StatusOr<Value> NextArgument() {
    ++used_;
    if (tuple_ != nullptr) {
      if (used_ > tuple_->items.size()) return Error("not enough arguments for format string");
      return tuple_->items[used_ - 1];
    }
    if (used_ > 1) return Error("not enough arguments for format string");
    return args_;
  }
  absl::StatusOr<int64_t> Number(int64_t limit) {
    const std::string& s = format_.str();
    if (at_ < s.size() && s[at_] == '*') {
      ++at_;
      HYSPARSE_ASSIGN_OR_RETURN(const Value value, NextArgument());
      if (!value.integral()) return Error("* wants int");
      if (value.integer() > limit || value.integer() < -limit) return Error("width or precision too big");
      return static_cast<int64_t>(value.integer());
    }
    int64_t number = 0;
    for (; at_ < s.size() && absl::ascii_isdigit(s[at_]); ++at_) {
      number = number * 10 + (s[at_] - '0');
      if (number > limit) return Error("width or precision too big");
    }
    return number;
  }
  absl::StatusOr<Value> Key() {
    const std::string& s = format_.str();
    const size_t close = s.find(')', at_);
    if (close == std::string::npos) return Error("incomplete format key");
    const Dict* dict = args_.as<Dict>();
    if (dict == nullptr) return Error("format requires a mapping");
    const Value* value = dict->Find("s" + s.substr(at_, close - at_));
    if (value == nullptr) return Error(Cat("KeyError: '", s.substr(at_, close - at_), "'"));
    at_ = close + 1;
    ++used_;
    return *value;
  }
  absl::Status Conversion();
  absl::Status Convert(const Value& value, FormatSpec spec, bool trusted);

  Heap& heap_;
  const Text& format_;
  const Value& args_;
  const List* tuple_ = nullptr;
  size_t used_ = 0, at_ = 0;
  Text out_;
};

absl::Status PercentFormatter::Conversion() {
  const std::string& s = format_.str();
  const bool trusted = format_.TrustedAt(at_++);
  Value value;
  if (at_ < s.size() && s[at_] == '(') {
    ++at_;
    HYSPARSE_ASSIGN_OR_RETURN(value, Key());
  }
  FormatSpec spec;
  for (; at_ < s.size() && std::string_view("-+ 0#").find(s[at_]) != std::string_view::npos; ++at_) {
    if (s[at_] == '-') spec.align = '<';
    if (s[at_] == '+' || (s[at_] == ' ' && spec.sign == '\0')) spec.sign = s[at_];
    if (s[at_] == '0' && spec.align == '\0') spec.fill = "0";
    if (s[at_] == '#') spec.alternate = true;
  }
  HYSPARSE_ASSIGN_OR_RETURN(spec.width, Number(kMaxWidth));
  if (spec.width < 0) {
    spec.align = '<';
    spec.width = -spec.width;
  }
  if (at_ < s.size() && s[at_] == '.') {
    ++at_;
    HYSPARSE_ASSIGN_OR_RETURN(spec.precision, Number(kMaxWidth));
    spec.precision = std::max<int64_t>(spec.precision, 0);
  }
  while (at_ < s.size() && (s[at_] == 'l' || s[at_] == 'h' || s[at_] == 'L')) ++at_;
  if (at_ >= s.size()) return Error("incomplete format");
  spec.type = s[at_++];
  if (spec.type == '%') {
    out_.Append("%", trusted);
    return absl::OkStatus();
  }
  if (value.missing()) {
    HYSPARSE_ASSIGN_OR_RETURN(value, NextArgument());
  }
  return Convert(value, spec, trusted);
}

absl::Status PercentFormatter::Convert(const Value& value, FormatSpec spec, bool trusted) {
  Text text;
  if (spec.type == 's' || spec.type == 'r' || spec.type == 'a') {
    if (spec.type == 's') {
      HYSPARSE_RETURN_IF_ERROR(AppendStr(heap_, value, &text));
    } else {
      HYSPARSE_RETURN_IF_ERROR(AppendRepr(heap_, value, &text));
    }
    if (spec.precision >= 0) text = text.Slice(0, OffsetOf(text.str(), static_cast<size_t>(spec.precision)));
    spec.fill = " ";
  } else if (spec.type == 'c') {
    std::string character;
    if (value.string() && Length(value.str()) == 1) {
      text = value.text();
    } else if (value.integral() && value.integer() >= 0 && value.integer() < 0x110000 &&
               (value.integer() < 0xd800 || value.integer() >= 0xe000)) {
      AppendUtf8(static_cast<char32_t>(value.integer()), &character);
      text = Text(character, value.trusted());
    } else {
      return Error("%c requires int or char");
    }
    spec.fill = " ";
  } else if (std::string_view("diouxXeEfFgG").find(spec.type) != std::string_view::npos) {
    if (!value.number()) return Error(Cat("a number is required, not ", TypeName(value)));
    Value number = value;
    const bool integer_type = std::string_view("diouxX").find(spec.type) != std::string_view::npos;
    if (integer_type && value.is(Kind::kFloat)) {
      if (spec.type == 'x' || spec.type == 'X' || spec.type == 'o') return Error("an integer is required, not float");
      if (!(std::abs(value.real()) < 1e37)) return Error("cannot convert float to integer");
      number = Value::OfInt(static_cast<Int>(value.real()), value.trusted());
    }
    if (spec.type == 'i' || spec.type == 'u') spec.type = 'd';
    if (spec.precision > kMaxPrecision) return Error("precision too big");
    if (spec.fill == "0" && spec.align != '<') spec.align = '=';
    HYSPARSE_ASSIGN_OR_RETURN(const std::string digits, FormatNumber(number, spec));
    text = Text(digits, value.trusted() && trusted);
    if (spec.align == '=') spec.align = '>';
    spec.fill = " ";
  } else {
    return Error(Cat("unsupported format character '", std::string(1, spec.type), "'"));
  }
  out_.Append(Pad(std::move(text), spec, '>'));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Text> FormatPercent(Heap& heap, const Text& format, const Value& args) {
  return PercentFormatter(heap, format, args).Run();
}

}  // namespace hysparse::jinja
