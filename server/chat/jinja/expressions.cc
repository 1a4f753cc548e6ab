#include "engine/base/result.h"
#include "server/chat/jinja/cat.h"
#include "server/chat/jinja/evaluator.h"
#include "server/chat/jinja/operators.h"
#include "server/chat/jinja/print.h"
#include "server/chat/jinja/unicode.h"

namespace hysparse::jinja {

absl::Status Evaluator::Level::Check() const {
  if (evaluator_->depth_ > evaluator_->heap_.limits().depth) return Error("the template nests or recurses too deeply");
  return evaluator_->heap_.Step();
}

absl::StatusOr<Value> Evaluator::Eval(const Expr& expr, Scope* scope) {
  const Level level(this);
  HYSPARSE_RETURN_IF_ERROR(level.Check());
  using Kind = Expr::Kind;
  switch (expr.kind) {
    case Kind::kConst:
      return expr.constant;
    case Kind::kName:
      return Name(expr, scope);
    case Kind::kList:
    case Kind::kTuple:
      return ListExpr(expr, scope);
    case Kind::kDict:
      return DictExpr(expr, scope);
    case Kind::kAttribute: {
      HYSPARSE_ASSIGN_OR_RETURN(const Value object, Eval(*expr.children[0], scope));
      return GetAttribute(object, expr.name);
    }
    case Kind::kItem: {
      HYSPARSE_ASSIGN_OR_RETURN(const Value object, Eval(*expr.children[0], scope));
      HYSPARSE_ASSIGN_OR_RETURN(const Value key, Eval(*expr.children[1], scope));
      return GetItem(object, key);
    }
    case Kind::kSlice:
      return SliceExpr(expr, scope);
    case Kind::kCall:
      return CallExpr(expr, scope);
    case Kind::kFilter:
      return FilterExpr(expr, scope);
    case Kind::kTest:
      return TestExpr(expr, scope);
    case Kind::kNot:
    case Kind::kAnd:
    case Kind::kOr:
      return Logic(expr, scope);
    case Kind::kNegative:
    case Kind::kPositive: {
      HYSPARSE_ASSIGN_OR_RETURN(const Value operand, Eval(*expr.children[0], scope));
      HYSPARSE_ASSIGN_OR_RETURN(Value negated, Negate(operand));
      return expr.kind == Kind::kNegative ? std::move(negated) : Negate(negated);
    }
    case Kind::kBinary: {
      HYSPARSE_ASSIGN_OR_RETURN(const Value left, Eval(*expr.children[0], scope));
      HYSPARSE_ASSIGN_OR_RETURN(const Value right, Eval(*expr.children[1], scope));
      return Arithmetic(heap_, expr.name, left, right);
    }
    case Kind::kConcat:
      return ConcatExpr(expr, scope);
    case Kind::kCompare:
      return CompareExpr(expr, scope);
    case Kind::kConditional:
      return ConditionalExpr(expr, scope);
    case Kind::kNamespaceRef:
      break;
  }
  return Error("not an expression");
}

absl::StatusOr<Value> Evaluator::Name(const Expr& expr, Scope* scope) {
  const Value* value = scope->Find(expr.symbol);
  if (value != nullptr && !value->missing()) return *value;
  return Value::OfUndefined(Cat("'", expr.name, "' is undefined"));
}

absl::StatusOr<Value> Evaluator::ListExpr(const Expr& expr, Scope* scope) {
  std::vector<Value> items;
  for (const ExprPtr& child : expr.children) {
    HYSPARSE_ASSIGN_OR_RETURN(Value item, Eval(*child, scope));
    items.push_back(std::move(item));
  }
  return heap_.NewList(std::move(items), expr.kind == Expr::Kind::kTuple);
}

absl::StatusOr<Value> Evaluator::DictExpr(const Expr& expr, Scope* scope) {
  HYSPARSE_ASSIGN_OR_RETURN(Dict * dict, heap_.NewDict());
  for (size_t i = 0; i < expr.children.size(); i += 2) {
    HYSPARSE_ASSIGN_OR_RETURN(const Value key, Eval(*expr.children[i], scope));
    HYSPARSE_ASSIGN_OR_RETURN(Value value, Eval(*expr.children[i + 1], scope));
    HYSPARSE_RETURN_IF_ERROR(heap_.SetItem(dict, key, std::move(value)));
  }
  return Value::OfObject(dict);
}

absl::StatusOr<Value> Evaluator::SliceExpr(const Expr& expr, Scope* scope) {
  Value parts[4];
  for (int i = 0; i < 4; ++i) {
    if (expr.children[i] == nullptr) continue;
    HYSPARSE_ASSIGN_OR_RETURN(parts[i], Eval(*expr.children[i], scope));
  }
  const Value& object = parts[0];
  if (object.undefined()) return UndefinedError(object);
  const List* list = object.as<List>();
  const Range* range = object.as<Range>();
  if (!object.string() && list == nullptr && range == nullptr) {
    return Error(Cat("'", TypeName(object), "' object is not subscriptable"));
  }
  HYSPARSE_ASSIGN_OR_RETURN(const std::vector<int64_t> indices,
                            SliceIndices(heap_, LengthOf(object), parts[1], parts[2], parts[3]));
  if (object.string()) {
    HYSPARSE_RETURN_IF_ERROR(heap_.StepBytes(object.text().size()));
    const bool consecutive =
        !indices.empty() && indices.back() - indices[0] + 1 == static_cast<int64_t>(indices.size());
    if (consecutive) {
      const size_t begin = OffsetOf(object.str(), static_cast<size_t>(indices[0]));
      const size_t size = OffsetOf(std::string_view(object.str()).substr(begin), indices.size());
      return heap_.NewString(object.text().Slice(begin, begin + size));
    }
    HYSPARSE_ASSIGN_OR_RETURN(const std::vector<Value> characters, Characters(heap_, object.text()));
    Text text;
    for (const int64_t i : indices) text.Append(characters[static_cast<size_t>(i)].text());
    return heap_.NewString(std::move(text));
  }
  if (range != nullptr) {
    const int64_t count = static_cast<int64_t>(indices.size());
    auto at = [range](int64_t i) { return range->start + range->step * i; };
    const int64_t step = count > 1 ? at(indices[1]) - at(indices[0]) : 1;
    const int64_t start = count > 0 ? at(indices[0]) : 0;
    HYSPARSE_ASSIGN_OR_RETURN(Range * part, heap_.New<Range>(0, start, start + step * count, step, count));
    part->trusted = range->trusted;
    return Value::OfObject(part);
  }
  std::vector<Value> items;
  for (const int64_t i : indices) items.push_back(list->items[static_cast<size_t>(i)]);
  HYSPARSE_ASSIGN_OR_RETURN(Value part, heap_.NewList(std::move(items), list->type == Type::kTuple));
  part.object()->trusted = list->trusted;
  return part;
}

absl::StatusOr<Value> Evaluator::ConcatExpr(const Expr& expr, Scope* scope) {
  Text text;
  for (const ExprPtr& child : expr.children) {
    HYSPARSE_ASSIGN_OR_RETURN(const Value part, Eval(*child, scope));
    HYSPARSE_RETURN_IF_ERROR(AppendStr(heap_, part, &text));
  }
  return heap_.NewString(std::move(text));
}

absl::StatusOr<bool> Evaluator::CompareOne(std::string_view op, const Value& left, const Value& right) {
  if (op == "==") return Equal(heap_, left, right);
  if (op == "in") return Contains(heap_, right, left);
  if (op == "!=" || op == "not in") {
    HYSPARSE_ASSIGN_OR_RETURN(const bool holds, op == "!=" ? Equal(heap_, left, right) : Contains(heap_, right, left));
    return !holds;
  }
  const Order order = op == "<"    ? Order::kLess
                      : op == "<=" ? Order::kLessEqual
                      : op == ">"  ? Order::kGreater
                                   : Order::kGreaterEqual;
  return Ordered(heap_, order, left, right);
}

absl::StatusOr<Value> Evaluator::CompareExpr(const Expr& expr, Scope* scope) {
  HYSPARSE_ASSIGN_OR_RETURN(Value left, Eval(*expr.children[0], scope));
  for (size_t i = 0; i < expr.ops.size(); ++i) {
    HYSPARSE_ASSIGN_OR_RETURN(Value right, Eval(*expr.children[i + 1], scope));
    HYSPARSE_ASSIGN_OR_RETURN(const bool holds, CompareOne(expr.ops[i], left, right));
    if (!holds) return Value::OfBool(false);
    left = std::move(right);
  }
  return Value::OfBool(true);
}

absl::StatusOr<Value> Evaluator::Logic(const Expr& expr, Scope* scope) {
  HYSPARSE_ASSIGN_OR_RETURN(Value left, Eval(*expr.children[0], scope));
  const bool truth = Truthy(left);
  if (expr.kind == Expr::Kind::kNot) return Value::OfBool(!truth);
  if (truth == (expr.kind == Expr::Kind::kOr)) return left;
  return Eval(*expr.children[1], scope);
}

absl::StatusOr<Value> Evaluator::ConditionalExpr(const Expr& expr, Scope* scope) {
  HYSPARSE_ASSIGN_OR_RETURN(const Value condition, Eval(*expr.children[0], scope));
  if (Truthy(condition)) return Eval(*expr.children[1], scope);
  if (expr.children[2] != nullptr) return Eval(*expr.children[2], scope);
  return Value::OfUndefined(
      Cat("the inline if-expression on line ", expr.line, " evaluated to false and no else section was defined."));
}

absl::StatusOr<Value> Evaluator::FilterChain(const Expr& expr, Value head, Scope* scope) {
  const Level level(this);
  HYSPARSE_RETURN_IF_ERROR(level.Check());
  if (expr.children[0] != nullptr) {
    HYSPARSE_ASSIGN_OR_RETURN(head, FilterChain(*expr.children[0], std::move(head), scope));
  }
  HYSPARSE_ASSIGN_OR_RETURN(Args args, Arguments(expr.args, scope, std::move(head)));
  return CallFilter(expr.name, args);
}

absl::StatusOr<Value> Evaluator::FilterExpr(const Expr& expr, Scope* scope) {
  HYSPARSE_ASSIGN_OR_RETURN(Value value, Eval(*expr.children[0], scope));
  HYSPARSE_ASSIGN_OR_RETURN(Args args, Arguments(expr.args, scope, std::move(value)));
  return CallFilter(expr.name, args);
}

absl::StatusOr<Value> Evaluator::TestExpr(const Expr& expr, Scope* scope) {
  HYSPARSE_ASSIGN_OR_RETURN(Value value, Eval(*expr.children[0], scope));
  HYSPARSE_ASSIGN_OR_RETURN(Args args, Arguments(expr.args, scope, std::move(value)));
  return CallTest(expr.name, args);
}

// object[key] alone; missing when Python would raise TypeError or LookupError.
absl::StatusOr<Value> Evaluator::ItemOf(const Value& object, const Value& key) {
  if (const Dict* dict = object.as<Dict>(); dict != nullptr) {
    auto hash = HashKey(heap_, key);
    const Value* value = hash.ok() ? dict->Find(*hash) : nullptr;
    return value == nullptr ? Value() : *value;
  }
  const int64_t length = object.undefined() || object.as<DictView>() != nullptr ? -1 : LengthOf(object);
  if (length < 0 || !key.integral()) return Value();
  const Int index = key.integer() < 0 ? key.integer() + length : key.integer();
  if (index < 0 || index >= length) return Value();
  if (object.string()) {
    HYSPARSE_RETURN_IF_ERROR(heap_.StepBytes(object.text().size()));
    const size_t begin = OffsetOf(object.str(), static_cast<size_t>(index));
    return heap_.NewString(object.text().Slice(begin, begin + DecodeAt(object.str(), begin).size));
  }
  if (const Range* range = object.as<Range>(); range != nullptr) {
    return Value::OfInt(range->start + range->step * index, range->trusted);
  }
  return object.as<List>()->items[static_cast<size_t>(index)];
}

namespace {

Value NoSuch(const Value& object, std::string_view what, std::string_view name) {
  return Value::OfUndefined(Cat("'", TypeName(object), " object' has no ", what, " ", name));
}

// Methods of Python's dict that the sandbox withholds; with a dot their names hide keys all the same.
bool ChangesDict(std::string_view name) {
  return name == "update" || name == "clear" || name == "setdefault" || name == "popitem";
}

}  // namespace

absl::StatusOr<Value> Evaluator::GetItem(const Value& object, const Value& key) {
  if (object.undefined()) return UndefinedError(object);
  if (Loop* loop = object.as<Loop>(); loop != nullptr && key.string()) return LoopAttribute(loop, key.str());
  if (const Namespace* space = object.as<Namespace>(); space != nullptr) {
    return key.string() ? GetAttribute(object, key.str()) : NoSuch(object, "element", "of that kind");
  }
  HYSPARSE_ASSIGN_OR_RETURN(Value value, ItemOf(object, key));
  if (!value.missing()) return value;
  if (key.string()) {
    if (const Builtin method = FindMethod(object, key.str()); method != nullptr) return GetAttribute(object, key.str());
    return NoSuch(object, "attribute", Cat("'", key.str(), "'"));
  }
  HYSPARSE_ASSIGN_OR_RETURN(const Text name, ToText(heap_, key));
  return NoSuch(object, "element", name.str());
}

absl::StatusOr<Value> Evaluator::GetAttribute(const Value& object, const std::string& name) {
  if (object.undefined()) return UndefinedError(object);
  if (Loop* loop = object.as<Loop>(); loop != nullptr) return LoopAttribute(loop, name);
  if (const Namespace* space = object.as<Namespace>(); space != nullptr) {
    const Value* value = space->values->Find("s" + name);
    return value != nullptr ? *value : NoSuch(object, "attribute", Cat("'", name, "'"));
  }
  if (const Builtin method = FindMethod(object, name); method != nullptr) {
    HYSPARSE_ASSIGN_OR_RETURN(Function * bound, heap_.New<Function>(0, name, [this, object, method](Args& args) {
      args.positional.insert(args.positional.begin(), object);
      return method(*this, args);
    }));
    return Value::OfObject(bound);
  }
  if (const Dict* dict = object.as<Dict>(); dict != nullptr && !ChangesDict(name)) {
    if (const Value* value = dict->Find("s" + name); value != nullptr) return *value;
  }
  if (const List* list = object.as<List>(); list != nullptr && list->group) {
    if (name == "grouper") return list->items[0];
    if (name == "list") return list->items[1];
  }
  if (const Macro* macro = object.as<Macro>(); macro != nullptr && name == "name") {
    return heap_.NewString(macro->stmt->name, true);
  }
  return NoSuch(object, "attribute", Cat("'", name, "'"));
}

}  // namespace hysparse::jinja
