// Filters that make numbers: int, float, abs, round.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "engine/base/result.h"
#include "server/chat/jinja/cat.h"
#include "server/chat/jinja/evaluator.h"
#include "server/chat/jinja/operators.h"
#include "server/chat/jinja/unicode.h"

namespace hysparse::jinja {
namespace {

using Result = absl::StatusOr<Value>;

// Surrounding whitespace and single underscores between digits removed, as int() and float() allow; nullopt when an
// underscore stands elsewhere.
std::optional<std::string> CleanNumber(std::string_view s) {
  s = s.substr(0, RightStripped(s));
  s = s.substr(LeftStripped(s));
  std::string clean;
  for (size_t i = 0; i < s.size(); ++i) {
    if (s[i] != '_') {
      clean += s[i];
    } else if (i == 0 || i + 1 == s.size() || !absl::ascii_isalnum(s[i - 1]) || !absl::ascii_isalnum(s[i + 1])) {
      return std::nullopt;
    }
  }
  return clean;
}

int DigitOf(char c) {
  if (absl::ascii_isdigit(c)) return c - '0';
  return absl::ascii_isalpha(c) ? absl::ascii_tolower(c) - 'a' + 10 : 99;
}

// int(text, base); nullopt where Python raises ValueError.
absl::StatusOr<std::optional<Int>> ParseInt(std::string_view text, int64_t base) {
  const std::optional<std::string> clean = CleanNumber(text);
  if (!clean.has_value() || (base != 0 && (base < 2 || base > 36))) return std::optional<Int>();
  std::string_view s = *clean;
  const bool negative = !s.empty() && s[0] == '-';
  if (!s.empty() && (s[0] == '-' || s[0] == '+')) s.remove_prefix(1);
  const char mark = s.size() > 2 && s[0] == '0' ? absl::ascii_tolower(s[1]) : '\0';
  const int64_t marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
  if (marked != 0 && (base == 0 || base == marked)) {
    s.remove_prefix(2);
    base = marked;
  }
  if (base == 0) {
    if (s.size() > 1 && s[0] == '0' && s.find_first_not_of('0') != std::string_view::npos) return std::optional<Int>();
    base = 10;
  }
  if (s.empty()) return std::optional<Int>();
  Int value = 0;
  for (const char c : s) {
    if (DigitOf(c) >= base) return std::optional<Int>();
    if (__builtin_mul_overflow(value, static_cast<Int>(base), &value) ||
        __builtin_add_overflow(value, static_cast<Int>(DigitOf(c)), &value)) {
      return Error("integer result is too large");
    }
  }
  return std::optional<Int>(negative ? -value : value);
}

std::optional<double> ParseFloat(std::string_view text) {
  const std::optional<std::string> clean = CleanNumber(text);
  if (!clean.has_value() || clean->empty()) return std::nullopt;
  std::string lower = absl::AsciiStrToLower(*clean);
  if (lower[0] == '-' || lower[0] == '+') lower.erase(0, 1);
  const bool word = lower == "inf" || lower == "infinity" || lower == "nan";
  if (!word && lower.find_first_not_of("0123456789.e+-") != std::string::npos) return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(clean->c_str(), &end);
  if (end != clean->c_str() + clean->size()) return std::nullopt;
  return value;
}

Result Truncated(double value, bool trusted, const Value& otherwise) {
  if (!std::isfinite(value)) return otherwise;
  if (std::abs(value) > 1.7e38) return Error("integer result is too large");
  return Value::OfInt(static_cast<Int>(value), trusted);
}

Result ToInt(Evaluator&, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("int", args, {"value", "default", "base"}, 1));
  const Value& value = bound[0];
  const Value otherwise = bound[1].missing() ? Value::OfInt(0) : bound[1];
  if (value.undefined()) return UndefinedError(value);
  if (value.integral()) return Value::OfInt(value.integer(), value.trusted());
  if (value.is(Kind::kFloat))
    return std::isinf(value.real()) ? Error("cannot convert float infinity to integer")
                                    : Truncated(value.real(), value.trusted(), otherwise);
  if (!value.string()) return otherwise;
  HYSPARSE_ASSIGN_OR_RETURN(const int64_t base, AsIndex(bound[2], 10));
  const bool trusted = value.text().trusted();
  HYSPARSE_ASSIGN_OR_RETURN(const std::optional<Int> integer, ParseInt(value.str(), base));
  if (integer.has_value()) return Value::OfInt(*integer, trusted);
  const std::optional<double> real = ParseFloat(value.str());
  return real.has_value() ? Truncated(*real, trusted, otherwise) : otherwise;
}

Result ToFloat(Evaluator&, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("float", args, {"value", "default"}, 1));
  const Value otherwise = bound[1].missing() ? Value::OfFloat(0) : bound[1];
  if (bound[0].undefined()) return UndefinedError(bound[0]);
  if (bound[0].number()) return Value::OfFloat(bound[0].real(), bound[0].trusted());
  if (!bound[0].string()) return otherwise;
  const std::optional<double> real = ParseFloat(bound[0].str());
  return real.has_value() ? Value::OfFloat(*real, bound[0].text().trusted()) : otherwise;
}

Result Abs(Evaluator&, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("abs", args, {"x"}, 1));
  const Value& value = bound[0];
  if (value.undefined()) return UndefinedError(value);
  if (!value.number()) return Error(Cat("bad operand type for abs(): '", TypeName(value), "'"));
  if (value.is(Kind::kFloat)) return Value::OfFloat(std::abs(value.real()), value.trusted());
  return value.integer() < 0 ? Negate(value) : Value::OfInt(value.integer(), value.trusted());
}

// round(x, digits): half to even on the exact decimal value, which is what printing does.
double RoundedTo(double value, int64_t digits) {
  if (!std::isfinite(value) || digits > 300) return value;
  if (digits >= 0) return std::strtod(absl::StrFormat("%.*f", static_cast<int>(digits), value).c_str(), nullptr);
  if (digits < -308) return std::copysign(0.0, value);
  const double scale = std::pow(10.0, static_cast<double>(-digits));
  return std::nearbyint(value / scale) * scale;
}

// round(int, -digits): to a multiple of a power of ten, half to even.
Result RoundedInt(Int value, int64_t digits, bool trusted) {
  if (digits >= 0) return Value::OfInt(value, trusted);
  if (digits < -37) return Value::OfInt(0, trusted);
  Int scale = 1;
  for (int64_t i = digits; i < 0; ++i) scale *= 10;
  Int below = value / scale * scale;
  if (below > value) below -= scale;
  const Int rest = value - below;
  const bool up = rest * 2 > scale || (rest * 2 == scale && below / scale % 2 != 0);
  return Value::OfInt(up ? below + scale : below, trusted);
}

Result Round(Evaluator&, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("round", args, {"value", "precision", "method"}, 1));
  const std::string method = bound[2].missing() ? "common" : bound[2].string() ? bound[2].str() : "";
  if (method != "common" && method != "ceil" && method != "floor") {
    return Error("method must be common, ceil or floor");
  }
  const Value& value = bound[0];
  if (value.undefined()) return UndefinedError(value);
  if (!value.number()) return Error(Cat("type ", TypeName(value), " doesn't define __round__ method"));
  HYSPARSE_ASSIGN_OR_RETURN(const int64_t digits, AsIndex(bound[1], 0));
  if (method == "common") {
    if (value.integral()) return RoundedInt(value.integer(), digits, value.trusted());
    return Value::OfFloat(RoundedTo(value.real(), digits), value.trusted());
  }
  if (digits > 300 || digits < -300) return Error("numerical result out of range");
  const double scale = std::pow(10.0, static_cast<double>(digits));
  const double scaled = value.real() * scale;
  if (!std::isfinite(scaled)) return Error("cannot convert float to integer");
  return Value::OfFloat(((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) + 0.0) / scale, value.trusted());
}

}  // namespace

const Table& NumberFilters() {
  static const Table& table = *new Table({{"int", ToInt}, {"float", ToFloat}, {"abs", Abs}, {"round", Round}});
  return table;
}

}  // namespace hysparse::jinja
