// The tests of `x is test`.
#include "engine/base/result.h"
#include "server/chat/jinja/evaluator.h"
#include "server/chat/jinja/operators.h"
#include "server/chat/jinja/print.h"
#include "server/chat/jinja/unicode.h"

namespace hysparse::jinja {
namespace {

using Result = absl::StatusOr<Value>;
using Predicate = bool (*)(const Value&);

template <Predicate kPredicate>
Result Is(Evaluator&, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("test", args, {"value"}, 1));
  return Value::OfBool(kPredicate(bound[0]));
}

bool Defined(const Value& v) { return !v.undefined(); }
bool Undefined(const Value& v) { return v.undefined(); }
bool None(const Value& v) { return v.none(); }
bool Boolean(const Value& v) { return v.is(Kind::kBool); }
bool True(const Value& v) { return v.is(Kind::kBool) && v.boolean(); }
bool False(const Value& v) { return v.is(Kind::kBool) && !v.boolean(); }
bool Integer(const Value& v) { return v.is(Kind::kInt); }
bool Float(const Value& v) { return v.is(Kind::kFloat); }
bool Number(const Value& v) { return v.number(); }
bool IsString(const Value& v) { return v.string(); }
bool Mapping(const Value& v) { return v.as<Dict>() != nullptr; }
bool Never(const Value&) { return false; }
bool Sequence(const Value& v) {  // what has len() and can be subscripted, an undefined value included
  return v.undefined() || v.string() || v.as<List>() != nullptr || v.as<Dict>() != nullptr || v.as<Range>() != nullptr;
}
// `loop` iterates in Python, and so does an undefined value.
bool IsIterable(const Value& v) { return Iterable(v) || (v.is(Kind::kObject) && v.object()->type == Type::kLoop); }
bool Callable(const Value& v) {
  if (v.undefined()) return true;  // calling it is what raises
  if (!v.is(Kind::kObject)) return false;
  const Type type = v.object()->type;
  return type == Type::kFunction || type == Type::kMacro || type == Type::kLoop;
}

template <bool (*kCase)(char32_t), bool (*kOther)(char32_t)>
Result HasCase(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("test", args, {"value"}, 1));
  HYSPARSE_ASSIGN_OR_RETURN(const Text text, ToText(evaluator.heap(), bound[0]));
  return Value::OfBool(AllCased(text.str(), kCase, kOther));
}

Result Modulo(Evaluator& evaluator, const Value& value, const Value& divisor, Int wanted) {
  HYSPARSE_ASSIGN_OR_RETURN(const Value rest, Arithmetic(evaluator.heap(), "%", value, divisor));
  HYSPARSE_ASSIGN_OR_RETURN(const bool holds, Equal(evaluator.heap(), rest, Value::OfInt(wanted)));
  return Value::OfBool(holds);
}

template <int kWanted>
Result Parity(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("test", args, {"value"}, 1));
  return Modulo(evaluator, bound[0], Value::OfInt(2), kWanted);
}

Result DivisibleBy(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("divisibleby", args, {"value", "num"}, 2));
  return Modulo(evaluator, bound[0], bound[1], 0);
}

Result SameAs(Evaluator&, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("sameas", args, {"value", "other"}, 2));
  const Value &a = bound[0], &b = bound[1];
  if (a.kind() != b.kind()) return Value::OfBool(false);
  if (a.is(Kind::kObject)) return Value::OfBool(a.object() == b.object());
  if (a.string()) return Value::OfBool(a.str() == b.str());
  if (a.number()) return Value::OfBool(a.real() == b.real());
  return Value::OfBool(true);
}

Result In(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("in", args, {"value", "seq"}, 2));
  HYSPARSE_ASSIGN_OR_RETURN(const bool holds, Contains(evaluator.heap(), bound[1], bound[0]));
  return Value::OfBool(holds);
}

template <bool kWanted>
Result EqualTo(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("eq", args, {"a", "b"}, 2));
  HYSPARSE_ASSIGN_OR_RETURN(const bool same, Equal(evaluator.heap(), bound[0], bound[1]));
  return Value::OfBool(same == kWanted);
}

template <Order kOrder>
Result Compare(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("compare", args, {"a", "b"}, 2));
  HYSPARSE_ASSIGN_OR_RETURN(const bool holds, Ordered(evaluator.heap(), kOrder, bound[0], bound[1]));
  return Value::OfBool(holds);
}

template <Builtin (*kFind)(std::string_view)>
Result Known(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("test", args, {"value"}, 1));
  HYSPARSE_RETURN_IF_ERROR(HashKey(evaluator.heap(), bound[0]).status());
  return Value::OfBool(bound[0].string() && kFind(bound[0].str()) != nullptr);
}

const Table& Tests() {
  static const Table& table = *new Table({{"defined", Is<Defined>},
                                          {"undefined", Is<Undefined>},
                                          {"none", Is<None>},
                                          {"boolean", Is<Boolean>},
                                          {"true", Is<True>},
                                          {"false", Is<False>},
                                          {"integer", Is<Integer>},
                                          {"float", Is<Float>},
                                          {"number", Is<Number>},
                                          {"string", Is<IsString>},
                                          {"mapping", Is<Mapping>},
                                          {"sequence", Is<Sequence>},
                                          {"iterable", Is<IsIterable>},
                                          {"callable", Is<Callable>},
                                          {"escaped", Is<Never>},
                                          {"lower", HasCase<IsLower, IsUpper>},
                                          {"upper", HasCase<IsUpper, IsLower>},
                                          {"odd", Parity<1>},
                                          {"even", Parity<0>},
                                          {"divisibleby", DivisibleBy},
                                          {"sameas", SameAs},
                                          {"in", In},
                                          {"filter", Known<FindFilter>},
                                          {"test", Known<FindTest>},
                                          {"==", EqualTo<true>},
                                          {"eq", EqualTo<true>},
                                          {"equalto", EqualTo<true>},
                                          {"!=", EqualTo<false>},
                                          {"ne", EqualTo<false>},
                                          {">", Compare<Order::kGreater>},
                                          {"gt", Compare<Order::kGreater>},
                                          {"greaterthan", Compare<Order::kGreater>},
                                          {">=", Compare<Order::kGreaterEqual>},
                                          {"ge", Compare<Order::kGreaterEqual>},
                                          {"<", Compare<Order::kLess>},
                                          {"lt", Compare<Order::kLess>},
                                          {"lessthan", Compare<Order::kLess>},
                                          {"<=", Compare<Order::kLessEqual>},
                                          {"le", Compare<Order::kLessEqual>}});
  return table;
}

}  // namespace

bool AllCased(std::string_view text, bool (*wanted)(char32_t), bool (*other)(char32_t)) {
  bool any = false;
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = DecodeAt(text, i);
    if (other(c.value) || (IsCased(c.value) && !wanted(c.value))) return false;
    any = any || wanted(c.value);
    i += c.size;
  }
  return any;
}

Builtin FindTest(std::string_view name) {
  auto it = Tests().find(name);
  return it == Tests().end() ? nullptr : it->second;
}

}  // namespace hysparse::jinja
