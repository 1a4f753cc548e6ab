// Python's arithmetic: the number half of operators.h, and + * % on strings and sequences.
#include <cmath>

#include "engine/base/result.h"
#include "server/chat/jinja/cat.h"
#include "server/chat/jinja/format.h"
#include "server/chat/jinja/operators.h"

namespace hysparse::jinja {
namespace {

absl::Status Overflow() { return Error("integer result is too large"); }
absl::Status ByZero() { return Error("division by zero"); }

Int FloorDivide(Int a, Int b) {
  const Int quotient = a / b;
  return quotient * b != a && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

double FloorModulo(double a, double b) {
  const double remainder = std::fmod(a, b);
  if (remainder == 0) return std::copysign(0.0, b);
  return (remainder < 0) != (b < 0) ? remainder + b : remainder;
}

// CPython's float floor division, which goes by way of the remainder.
double FloorQuotient(double a, double b) {
  const double quotient = (a - FloorModulo(a, b)) / b;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double floor = std::floor(quotient);
  return quotient - floor > 0.5 ? floor + 1 : floor;
}

absl::StatusOr<Value> IntegerPower(Int base, Int exponent, bool trusted) {
  if (exponent < 0) {
    if (base == 0) return Error("0.0 cannot be raised to a negative power");
    return Value::OfFloat(std::pow(static_cast<double>(base), static_cast<double>(exponent)), trusted);
  }
  Int result = 1;
  while (exponent > 0) {
    if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) return Overflow();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) return Overflow();
  }
  return Value::OfInt(result, trusted);
}

absl::StatusOr<Value> Integers(std::string_view op, Int a, Int b, bool trusted) {
  Int result = 0;
  if (op == "**") return IntegerPower(a, b, trusted);
  if (op == "+"   ? __builtin_add_overflow(a, b, &result)
      : op == "-" ? __builtin_sub_overflow(a, b, &result)
                  : op == "*" && __builtin_mul_overflow(a, b, &result)) {
    return Overflow();
  }
  if (op == "+" || op == "-" || op == "*") return Value::OfInt(result, trusted);
  if (b == 0) return ByZero();
  if (op == "/") return Value::OfFloat(static_cast<double>(a) / static_cast<double>(b), trusted);
  if (b == -1) {  // the one quotient that may not fit
    if (op == "%") return Value::OfInt(0, trusted);
    if (__builtin_sub_overflow(Int{0}, a, &result)) return Overflow();
    return Value::OfInt(result, trusted);
  }
  const Int quotient = FloorDivide(a, b);
  return Value::OfInt(op == "//" ? quotient : a - quotient * b, trusted);
}

absl::StatusOr<Value> Floats(std::string_view op, double a, double b, bool trusted) {
  auto value = [trusted](double result) { return Value::OfFloat(result, trusted); };
  if (op == "+") return value(a + b);
  if (op == "-") return value(a - b);
  if (op == "*") return value(a * b);
  if (op == "**") {
    if (a == 0 && b < 0) return Error("0.0 cannot be raised to a negative power");
    if (a < 0 && std::isfinite(b) && b != std::floor(b)) return Error("complex numbers are not supported");
    const double result = std::pow(a, b);
    if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) return Error("numerical result out of range");
    return value(result);
  }
  if (b == 0) return ByZero();
  if (op == "/") return value(a / b);
  return value(op == "//" ? FloorQuotient(a, b) : FloorModulo(a, b));
}

absl::StatusOr<Value> JoinLists(Heap& heap, const List& a, const List& b) {
  std::vector<Value> items = a.items;
  HYSPARSE_RETURN_IF_ERROR(heap.Reserve((a.items.size() + b.items.size()) * sizeof(Value)));
  items.insert(items.end(), b.items.begin(), b.items.end());
  HYSPARSE_ASSIGN_OR_RETURN(Value joined, heap.NewList(std::move(items), a.type == Type::kTuple));
  joined.object()->trusted = a.trusted && b.trusted;
  return joined;
}

absl::StatusOr<Value> RepeatList(Heap& heap, const List& list, Int count) {
  const Int total = count <= 0 ? 0 : count;
  if (!list.items.empty() && total > static_cast<Int>(heap.limits().live_bytes)) {
    return Error("the template needs too much memory");
  }
  const auto size = list.items.size() * static_cast<size_t>(list.items.empty() ? 0 : total);
  HYSPARSE_RETURN_IF_ERROR(heap.Reserve(size * sizeof(Value)));
  std::vector<Value> items;
  items.reserve(size);
  while (items.size() < size) items.insert(items.end(), list.items.begin(), list.items.end());
  HYSPARSE_ASSIGN_OR_RETURN(Value repeated, heap.NewList(std::move(items), list.type == Type::kTuple));
  repeated.object()->trusted = list.trusted;
  return repeated;
}

// + and * on strings, lists and tuples; missing when neither applies.
absl::StatusOr<Value> Sequences(Heap& heap, std::string_view op, const Value& a, const Value& b) {
  const List *x = a.as<List>(), *y = b.as<List>();
  if (op == "+") {
    if (a.string() && b.string()) return Concatenate(heap, a.text(), b.text());
    if (x != nullptr && y != nullptr && x->type == y->type) return JoinLists(heap, *x, *y);
  }
  if (op == "*") {
    if (a.string() && b.integral()) return Repeat(heap, a.text(), b.integer());
    if (b.string() && a.integral()) return Repeat(heap, b.text(), a.integer());
    if (x != nullptr && b.integral()) return RepeatList(heap, *x, b.integer());
    if (y != nullptr && a.integral()) return RepeatList(heap, *y, a.integer());
  }
  return Value();
}

}  // namespace

absl::StatusOr<Value> Concatenate(Heap& heap, const Text& a, const Text& b) {
  HYSPARSE_RETURN_IF_ERROR(heap.Reserve(a.bytes() + b.bytes()));
  Text text = a;
  text.Append(b);
  return heap.NewString(std::move(text));
}

absl::StatusOr<Value> Repeat(Heap& heap, const Text& text, Int count) {
  if (count <= 0 || text.empty()) return heap.NewString(Text());
  if (count > static_cast<Int>(heap.limits().live_bytes)) return Error("the template needs too much memory");
  const auto times = static_cast<size_t>(count);
  HYSPARSE_RETURN_IF_ERROR(heap.Reserve(times * (text.size() + text.runs().size() * sizeof(Text::Run))));
  HYSPARSE_RETURN_IF_ERROR(heap.Step(count));
  Text result;
  for (size_t i = 0; i < times; ++i) result.Append(text);
  return heap.NewString(std::move(result));
}

absl::StatusOr<Value> Arithmetic(Heap& heap, std::string_view op, const Value& a, const Value& b) {
  if (a.string() && op == "%") {
    HYSPARSE_ASSIGN_OR_RETURN(Text text, FormatPercent(heap, a.text(), b));
    return heap.NewString(std::move(text));
  }
  if (a.undefined()) return UndefinedError(a);
  if (b.undefined()) return UndefinedError(b);
  if (a.number() && b.number()) {
    const bool trusted = a.trusted() && b.trusted();
    if (a.integral() && b.integral()) return Integers(op, a.integer(), b.integer(), trusted);
    return Floats(op, a.real(), b.real(), trusted);
  }
  HYSPARSE_ASSIGN_OR_RETURN(Value result, Sequences(heap, op, a, b));
  if (!result.missing()) return result;
  return Error(Cat("unsupported operand type(s) for ", op, ": '", TypeName(a), "' and '", TypeName(b), "'"));
}

absl::StatusOr<Value> Negate(const Value& value) {
  if (value.undefined()) return UndefinedError(value);
  if (value.is(Kind::kFloat)) return Value::OfFloat(-value.real(), value.trusted());
  if (!value.integral()) return Error(Cat("bad operand type for unary -: '", TypeName(value), "'"));
  return Integers("-", 0, value.integer(), value.trusted());
}

}  // namespace hysparse::jinja
