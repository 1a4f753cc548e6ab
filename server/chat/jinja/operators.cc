#include "server/chat/jinja/operators.h"

#include <algorithm>
#include <cmath>

#include "engine/base/result.h"
#include "server/chat/jinja/cat.h"
#include "server/chat/jinja/print.h"
#include "server/chat/jinja/unicode.h"

namespace hysparse::jinja {

absl::Status Error(std::string_view what) { return absl::InvalidArgumentError(std::string(what)); }
absl::Status UndefinedError(const Value& value) { return absl::InvalidArgumentError(value.what()); }

std::string_view TypeName(const Value& value) {
  switch (value.kind()) {
    case Kind::kMissing:
      return "missing";
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return "str";
    case Kind::kObject:
      break;
  }
  switch (value.object()->type) {
    case Type::kList:
      return "list";
    case Type::kTuple:
      return "tuple";
    case Type::kDict:
      return "dict";
    case Type::kDictView:
      return "dict_items";
    case Type::kRange:
      return "range";
    case Type::kIterator:
      return "generator";
    case Type::kNamespace:
      return "Namespace";
    case Type::kFunction:
      return "function";
    case Type::kMacro:
      return "Macro";
    case Type::kLoop:
      return "LoopContext";
  }
  return "object";
}

int64_t LengthOf(const Value& value) {
  if (value.undefined()) return 0;
  if (value.string()) return static_cast<int64_t>(Length(value.str()));
  if (!value.is(Kind::kObject)) return -1;
  switch (value.object()->type) {
    case Type::kList:
    case Type::kTuple:
      return static_cast<int64_t>(value.as<List>()->items.size());
    case Type::kDict:
      return static_cast<int64_t>(value.as<Dict>()->items.size());
    case Type::kDictView:
      return static_cast<int64_t>(value.as<DictView>()->dict->items.size());
    case Type::kRange:
      return value.as<Range>()->count;
    default:
      return -1;
  }
}

bool Truthy(const Value& value) {
  switch (value.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
      return value.boolean();
    case Kind::kInt:
      return value.integer() != 0;
    case Kind::kFloat:
      return value.real() != 0;
    case Kind::kString:
      return !value.text().empty();
    case Kind::kObject:
      return LengthOf(value) != 0;
  }
  return false;
}

namespace {

absl::Status TooDeep() { return Error("maximum recursion depth exceeded in a nested value"); }

absl::StatusOr<bool> EqualLists(Heap& heap, const List& a, const List& b, int depth) {
  if (a.items.size() != b.items.size()) return false;
  for (size_t i = 0; i < a.items.size(); ++i) {
    HYSPARSE_ASSIGN_OR_RETURN(const bool same, Equal(heap, a.items[i], b.items[i], depth + 1));
    if (!same) return false;
  }
  return true;
}

absl::StatusOr<bool> EqualDicts(Heap& heap, const Dict& a, const Dict& b, int depth) {
  if (a.items.size() != b.items.size()) return false;
  for (size_t i = 0; i < a.items.size(); ++i) {
    const Value* other = b.Find(a.hashes[i]);
    if (other == nullptr) return false;
    HYSPARSE_ASSIGN_OR_RETURN(const bool same, Equal(heap, a.items[i].second, *other, depth + 1));
    if (!same) return false;
  }
  return true;
}

template <typename T>
bool Holds(Order order, const T& a, const T& b) {
  switch (order) {
    case Order::kLess:
      return a < b;
    case Order::kLessEqual:
      return a <= b;
    case Order::kGreater:
      return a > b;
    case Order::kGreaterEqual:
      return a >= b;
  }
  return false;
}

absl::StatusOr<bool> OrderedLists(Heap& heap, Order order, const List& a, const List& b, int depth) {
  for (size_t i = 0; i < std::min(a.items.size(), b.items.size()); ++i) {
    HYSPARSE_ASSIGN_OR_RETURN(const bool same, Equal(heap, a.items[i], b.items[i], depth + 1));
    if (!same) return Ordered(heap, order, a.items[i], b.items[i], depth + 1);
  }
  return Holds(order, a.items.size(), b.items.size());
}

}  // namespace

absl::StatusOr<bool> Equal(Heap& heap, const Value& a, const Value& b, int depth) {
  HYSPARSE_RETURN_IF_ERROR(heap.Step());
  if (depth > heap.limits().value_depth) return TooDeep();
  if (a.number() && b.number()) {
    return a.integral() && b.integral() ? a.integer() == b.integer() : a.real() == b.real();
  }
  if (a.kind() != b.kind()) return false;
  if (a.string()) {
    HYSPARSE_RETURN_IF_ERROR(heap.StepBytes(std::min(a.text().size(), b.text().size())));
    return a.str() == b.str();
  }
  if (!a.is(Kind::kObject)) return true;  // none and undefined
  if (a.object() == b.object()) return true;
  if (a.object()->type != b.object()->type) return false;
  switch (a.object()->type) {
    case Type::kList:
    case Type::kTuple:
      return EqualLists(heap, *a.as<List>(), *b.as<List>(), depth);
    case Type::kDict:
      return EqualDicts(heap, *a.as<Dict>(), *b.as<Dict>(), depth);
    case Type::kRange: {
      const Range &x = *a.as<Range>(), &y = *b.as<Range>();
      return x.count == y.count && (x.count == 0 || (x.start == y.start && (x.count == 1 || x.step == y.step)));
    }
    default:
      return false;
  }
}

absl::StatusOr<bool> Ordered(Heap& heap, Order order, const Value& a, const Value& b, int depth) {
  HYSPARSE_RETURN_IF_ERROR(heap.Step());
  if (depth > heap.limits().value_depth) return TooDeep();
  if (a.number() && b.number()) {
    return a.integral() && b.integral() ? Holds(order, a.integer(), b.integer()) : Holds(order, a.real(), b.real());
  }
  if (a.undefined()) return UndefinedError(a);
  if (b.undefined()) return UndefinedError(b);
  if (a.string() && b.string()) {
    HYSPARSE_RETURN_IF_ERROR(heap.StepBytes(std::min(a.text().size(), b.text().size())));
    return Holds(order, a.str(), b.str());  // UTF-8's byte order is the code points' order
  }
  const List *x = a.as<List>(), *y = b.as<List>();
  if (x != nullptr && y != nullptr && x->type == y->type) return OrderedLists(heap, order, *x, *y, depth);
  return Error(Cat("'", TypeName(a), "' and '", TypeName(b), "' cannot be ordered"));
}

absl::StatusOr<bool> Contains(Heap& heap, const Value& container, const Value& item) {
  if (container.string()) {
    if (item.undefined()) return Error("'in <string>' requires string as left operand, not Undefined");
    if (!item.string()) {
      return Error(Cat("'in <string>' requires string as left operand, not ", TypeName(item)));
    }
    HYSPARSE_RETURN_IF_ERROR(heap.StepBytes(container.text().size()));
    return FindBytes(container.str(), item.str(), 0) != std::string::npos;
  }
  if (const Dict* dict = container.as<Dict>(); dict != nullptr) {
    HYSPARSE_ASSIGN_OR_RETURN(const std::string hash, HashKey(heap, item));
    return dict->Find(hash) != nullptr;
  }
  if (!Iterable(container)) return Error(Cat("argument of type '", TypeName(container), "' is not iterable"));
  HYSPARSE_ASSIGN_OR_RETURN(const std::vector<Value> items, Items(heap, container));
  for (const Value& candidate : items) {
    HYSPARSE_ASSIGN_OR_RETURN(const bool same, Equal(heap, candidate, item));
    if (same) return true;
  }
  return false;
}

absl::StatusOr<std::string> HashKey(Heap& heap, const Value& key, int depth) {
  if (depth > heap.limits().value_depth) return TooDeep();
  switch (key.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
      return std::string("u");
    case Kind::kNone:
      return std::string("n");
    case Kind::kBool:
    case Kind::kInt:
      return Cat("#", PrintInt(key.integer()));
    case Kind::kFloat: {
      const double d = key.real();
      if (std::abs(d) < 1e38 && d == std::floor(d)) return Cat("#", PrintInt(static_cast<Int>(d)));
      return Cat("f", PrintFloat(d));
    }
    case Kind::kString:
      HYSPARSE_RETURN_IF_ERROR(heap.StepBytes(key.text().size()));
      return Cat("s", key.str());
    case Kind::kObject:
      break;
  }
  const Type type = key.object()->type;
  if (type == Type::kList || type == Type::kDict || type == Type::kDictView) {
    return Error(Cat("unhashable type: '", TypeName(key), "'"));
  }
  if (type != Type::kTuple) return Cat("o", reinterpret_cast<uintptr_t>(key.object()));
  std::string hash = "(";
  for (const Value& item : key.as<List>()->items) {
    HYSPARSE_RETURN_IF_ERROR(heap.Step());
    HYSPARSE_ASSIGN_OR_RETURN(const std::string part, HashKey(heap, item, depth + 1));
    HYSPARSE_RETURN_IF_ERROR(heap.Reserve(hash.size() + part.size()));
    hash += Cat(part.size(), ":", part);
  }
  return hash;
}

}  // namespace hysparse::jinja
