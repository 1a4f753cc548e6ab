// Methods of dicts, lists and tuples, and the lookup of all methods.
#include "engine/base/result.h"
#include "server/chat/jinja/evaluator.h"
#include "server/chat/jinja/operators.h"

namespace hysparse::jinja {
namespace {

using Result = absl::StatusOr<Value>;

Result Get(Evaluator& evaluator, Args& args) {
  if (!args.named.empty()) return Error("dict.get() takes no keyword arguments");
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("get", args, {"self", "key", "default"}, 2));
  HYSPARSE_ASSIGN_OR_RETURN(const std::string hash, HashKey(evaluator.heap(), bound[1]));
  const Value* value = bound[0].as<Dict>()->Find(hash);
  if (value != nullptr) return *value;
  return bound[2].missing() ? Value::OfNone() : bound[2];
}

template <DictView::Part kPart>
Result View(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("view", args, {"self"}, 1));
  HYSPARSE_ASSIGN_OR_RETURN(DictView * view, evaluator.heap().New<DictView>(0, bound[0].as<Dict>(), kPart));
  return Value::OfObject(view);
}

Result CopyDict(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("copy", args, {"self"}, 1));
  HYSPARSE_ASSIGN_OR_RETURN(Dict * copy, evaluator.heap().NewDict());
  copy->trusted = bound[0].object()->trusted;
  for (const auto& [key, value] : bound[0].as<Dict>()->items) {
    HYSPARSE_RETURN_IF_ERROR(evaluator.heap().SetItem(copy, key, value));
  }
  return Value::OfObject(copy);
}

Result PopDict(Evaluator& evaluator, Args& args) {
  if (!args.named.empty()) return Error("dict.pop() takes no keyword arguments");
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("pop", args, {"self", "key", "default"}, 2));
  HYSPARSE_ASSIGN_OR_RETURN(const std::string hash, HashKey(evaluator.heap(), bound[1]));
  Dict* dict = bound[0].as<Dict>();
  HYSPARSE_RETURN_IF_ERROR(evaluator.heap().Step(static_cast<int64_t>(dict->items.size())));
  std::optional<Value> value = dict->Remove(hash);
  if (value.has_value()) return *std::move(value);
  if (bound[2].missing()) return Error("KeyError: the key to pop is not there");
  return bound[2];
}

Result Append(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("append", args, {"self", "object"}, 2));
  HYSPARSE_RETURN_IF_ERROR(evaluator.heap().AppendItem(bound[0].as<List>(), bound[1]));
  return Value::OfNone();
}

Result PopList(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("pop", args, {"self", "index"}, 1));
  HYSPARSE_ASSIGN_OR_RETURN(int64_t index, AsIndex(bound[1], -1));
  std::vector<Value>& items = bound[0].as<List>()->items;
  HYSPARSE_RETURN_IF_ERROR(evaluator.heap().Step(static_cast<int64_t>(items.size() / 16)));
  if (index < 0) index += static_cast<int64_t>(items.size());
  if (index < 0 || index >= static_cast<int64_t>(items.size())) return Error("pop index out of range");
  Value value = items[static_cast<size_t>(index)];
  items.erase(items.begin() + index);
  return value;
}

Result CopyList(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("copy", args, {"self"}, 1));
  HYSPARSE_ASSIGN_OR_RETURN(Value copy, evaluator.heap().NewList(bound[0].as<List>()->items));
  copy.object()->trusted = bound[0].object()->trusted;
  return copy;
}

Result CountItems(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("count", args, {"self", "value"}, 2));
  Int count = 0;
  for (const Value& item : bound[0].as<List>()->items) {
    HYSPARSE_ASSIGN_OR_RETURN(const bool same, Equal(evaluator.heap(), item, bound[1]));
    count += same;
  }
  return Value::OfInt(count);
}

Result IndexOf(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("index", args, {"self", "value"}, 2));
  const std::vector<Value>& items = bound[0].as<List>()->items;
  for (size_t i = 0; i < items.size(); ++i) {
    HYSPARSE_ASSIGN_OR_RETURN(const bool same, Equal(evaluator.heap(), items[i], bound[1]));
    if (same) return Value::OfInt(static_cast<Int>(i));
  }
  return Error("ValueError: the value is not in the list");
}

const Table& DictMethods() {
  static const Table& table = *new Table({{"get", Get},
                                          {"keys", View<DictView::Part::kKeys>},
                                          {"values", View<DictView::Part::kValues>},
                                          {"items", View<DictView::Part::kItems>},
                                          {"copy", CopyDict},
                                          {"pop", PopDict}});
  return table;
}

const Table& ListMethods() {
  static const Table& table =
      *new Table({{"append", Append}, {"pop", PopList}, {"copy", CopyList}, {"count", CountItems}, {"index", IndexOf}});
  return table;
}

const Table& TupleMethods() {
  static const Table& table = *new Table({{"count", CountItems}, {"index", IndexOf}});
  return table;
}

Builtin Look(const Table& table, std::string_view name) {
  auto it = table.find(name);
  return it == table.end() ? nullptr : it->second;
}

}  // namespace

Builtin FindMethod(const Value& object, std::string_view name) {
  if (object.string()) {
    const Builtin method = Look(StringMethods(), name);
    return method != nullptr ? method : Look(SplitMethods(), name);
  }
  if (!object.is(Kind::kObject)) return nullptr;
  switch (object.object()->type) {
    case Type::kDict:
      return Look(DictMethods(), name);
    case Type::kList:
      return Look(ListMethods(), name);
    case Type::kTuple:
      return Look(TupleMethods(), name);
    default:
      return nullptr;
  }
}

}  // namespace hysparse::jinja
