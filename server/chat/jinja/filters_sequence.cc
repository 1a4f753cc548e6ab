// Filters over lists, dicts and other iterables.
#include <algorithm>

#include "engine/base/result.h"
#include "server/chat/jinja/cat.h"
#include "server/chat/jinja/evaluator.h"
#include "server/chat/jinja/operators.h"
#include "server/chat/jinja/print.h"
#include "server/chat/jinja/unicode.h"

namespace hysparse::jinja {
namespace {

using Result = absl::StatusOr<Value>;

Result LengthFilter(Evaluator&, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("length", args, {"obj"}, 1));
  const int64_t length = LengthOf(bound[0]);
  if (length < 0) return Error(Cat("object of type '", TypeName(bound[0]), "' has no len()"));
  return Value::OfInt(length);
}

Result Default(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("default", args, {"value", "default_value", "boolean"}, 1));
  if (!bound[0].undefined() && !(AsFlag(bound[2], false) && !Truthy(bound[0]))) return bound[0];
  if (!bound[1].missing()) return bound[1];
  return evaluator.NewString(Text());
}

Result First(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("first", args, {"seq"}, 1));
  if (Iterator* iterator = bound[0].as<Iterator>(); iterator != nullptr) {  // takes one item, leaves the others
    HYSPARSE_ASSIGN_OR_RETURN(iterator->items, Items(evaluator.heap(), bound[0]));
    if (iterator->items.empty()) return Value::OfUndefined("No first item, sequence was empty.");
    iterator->next = 1;
    return iterator->items[0];
  }
  if (const List* list = bound[0].as<List>(); list != nullptr && !list->items.empty()) return list->items.front();
  HYSPARSE_ASSIGN_OR_RETURN(const std::vector<Value> items, Items(evaluator.heap(), bound[0]));
  return items.empty() ? Value::OfUndefined("No first item, sequence was empty.") : items.front();
}

Result Last(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("last", args, {"seq"}, 1));
  if (bound[0].as<Iterator>() != nullptr) return Error("'generator' object is not reversible");
  if (const List* list = bound[0].as<List>(); list != nullptr && !list->items.empty()) return list->items.back();
  HYSPARSE_ASSIGN_OR_RETURN(const std::vector<Value> items, Items(evaluator.heap(), bound[0]));
  return items.empty() ? Value::OfUndefined("No last item, sequence was empty.") : items.back();
}

Result ToList(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("list", args, {"value"}, 1));
  HYSPARSE_ASSIGN_OR_RETURN(std::vector<Value> items, Items(evaluator.heap(), bound[0]));
  HYSPARSE_ASSIGN_OR_RETURN(Value list, evaluator.heap().NewList(std::move(items)));
  if (bound[0].is(Kind::kObject)) list.object()->trusted = bound[0].object()->trusted;
  return list;
}

// An iterator over items that are made when first asked for.
Result Lazy(Evaluator& evaluator, Iterator::Make make) {
  HYSPARSE_ASSIGN_OR_RETURN(Iterator * iterator, evaluator.heap().New<Iterator>(0, std::move(make)));
  return Value::OfObject(iterator);
}

Result ItemsFilter(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("items", args, {"value"}, 1));
  return Lazy(evaluator, [&evaluator, value = bound[0]]() -> absl::StatusOr<std::vector<Value>> {
    if (value.undefined()) return std::vector<Value>();
    Dict* dict = value.as<Dict>();
    if (dict == nullptr) return Error("Can only get item pairs from a mapping.");
    DictView view(dict, DictView::Part::kItems);
    return Items(evaluator.heap(), Value::OfObject(&view));
  });
}

Result Reverse(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("reverse", args, {"value"}, 1));
  if (!Iterable(bound[0])) return Error("argument must be iterable");
  HYSPARSE_ASSIGN_OR_RETURN(std::vector<Value> items, Items(evaluator.heap(), bound[0]));
  std::reverse(items.begin(), items.end());
  if (bound[0].string()) {
    Text text;
    for (const Value& character : items) text.Append(character.text());
    return evaluator.NewString(std::move(text));
  }
  return Lazy(evaluator, [items]() { return absl::StatusOr<std::vector<Value>>(items); });
}

absl::StatusOr<Value> IgnoreCase(Evaluator& evaluator, const Value& value) {
  if (!value.string()) return value;
  HYSPARSE_RETURN_IF_ERROR(evaluator.heap().Step(static_cast<int64_t>(value.text().size() / 2)));
  return evaluator.NewString(ChangeCase(value.text(), Case::kLower));
}

Result DictSort(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("dictsort", args, {"value", "case_sensitive", "by", "reverse"}, 1));
  const Dict* dict = bound[0].as<Dict>();
  if (dict == nullptr) return Error("dictsort takes a mapping");
  const bool by_value = bound[2].string() && bound[2].str() == "value";
  if (!bound[2].missing() && !by_value && !(bound[2].string() && bound[2].str() == "key")) {
    return Error("You can only sort by either \"key\" or \"value\"");
  }
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [key, value] : dict->items) {
    Value by = by_value ? value : key;
    if (!AsFlag(bound[1], false)) {
      HYSPARSE_ASSIGN_OR_RETURN(by, IgnoreCase(evaluator, by));
    }
    HYSPARSE_ASSIGN_OR_RETURN(Value pair, evaluator.heap().NewList({key, value}, true));
    pair.object()->trusted = dict->trusted;
    keyed.emplace_back(std::move(by), std::move(pair));
  }
  HYSPARSE_RETURN_IF_ERROR(SortValues(evaluator.heap(), &keyed, AsFlag(bound[3], false)));
  std::vector<Value> sorted;
  for (auto& [by, pair] : keyed) sorted.push_back(std::move(pair));
  return evaluator.heap().NewList(std::move(sorted));
}

// What sort, unique, min, max and groupby compare by.
absl::StatusOr<Value> KeyOf(Evaluator& evaluator, const Value& item, const Value& attribute, bool case_sensitive) {
  Value key = item;
  if (!attribute.missing() && !attribute.none()) {
    HYSPARSE_ASSIGN_OR_RETURN(key, AttributePath(evaluator, item, attribute));
  }
  return case_sensitive ? key : IgnoreCase(evaluator, key);
}

// sort's attribute may be a list "a,b": the key is then a tuple.
absl::StatusOr<Value> SortKey(Evaluator& evaluator, const Value& item, const Value& attribute, bool case_sensitive) {
  if (!attribute.string()) return KeyOf(evaluator, item, attribute, case_sensitive);
  std::vector<Value> parts;
  for (size_t begin = 0; begin <= attribute.text().size();) {
    const size_t comma = std::min(attribute.str().find(',', begin), attribute.text().size());
    HYSPARSE_ASSIGN_OR_RETURN(const Value path, evaluator.NewString(attribute.text().Slice(begin, comma)));
    HYSPARSE_ASSIGN_OR_RETURN(Value part, KeyOf(evaluator, item, path, case_sensitive));
    parts.push_back(std::move(part));
    begin = comma + 1;
  }
  return evaluator.heap().NewList(std::move(parts), true);
}

Result Sort(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound,
                            Bind("sort", args, {"value", "reverse", "case_sensitive", "attribute"}, 1));
  HYSPARSE_ASSIGN_OR_RETURN(const std::vector<Value> items, Items(evaluator.heap(), bound[0]));
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : items) {
    HYSPARSE_ASSIGN_OR_RETURN(Value key, SortKey(evaluator, item, bound[3], AsFlag(bound[2], false)));
    keyed.emplace_back(std::move(key), item);
  }
  HYSPARSE_RETURN_IF_ERROR(SortValues(evaluator.heap(), &keyed, AsFlag(bound[1], false)));
  std::vector<Value> sorted;
  for (auto& [key, item] : keyed) sorted.push_back(std::move(item));
  return evaluator.heap().NewList(std::move(sorted));
}

Result Unique(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("unique", args, {"value", "case_sensitive", "attribute"}, 1));
  return Lazy(evaluator, [&evaluator, bound]() -> absl::StatusOr<std::vector<Value>> {
    HYSPARSE_ASSIGN_OR_RETURN(const std::vector<Value> items, Items(evaluator.heap(), bound[0]));
    HYSPARSE_ASSIGN_OR_RETURN(Dict * seen, evaluator.heap().NewDict());
    std::vector<Value> result;
    for (const Value& item : items) {
      HYSPARSE_ASSIGN_OR_RETURN(const Value key, KeyOf(evaluator, item, bound[2], AsFlag(bound[1], false)));
      const size_t before = seen->items.size();
      HYSPARSE_RETURN_IF_ERROR(evaluator.heap().SetItem(seen, key, Value::OfNone()));
      if (seen->items.size() > before) result.push_back(item);
    }
    return result;
  });
}

template <bool kMax>
Result Extreme(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("min", args, {"value", "case_sensitive", "attribute"}, 1));
  HYSPARSE_ASSIGN_OR_RETURN(const std::vector<Value> items, Items(evaluator.heap(), bound[0]));
  if (items.empty()) return Value::OfUndefined("No aggregated item, sequence was empty.");
  Value best = items[0], best_key;
  for (size_t i = 0; i < items.size(); ++i) {
    HYSPARSE_ASSIGN_OR_RETURN(Value key, KeyOf(evaluator, items[i], bound[2], AsFlag(bound[1], false)));
    if (i > 0) {
      HYSPARSE_ASSIGN_OR_RETURN(const bool better,
                                Ordered(evaluator.heap(), kMax ? Order::kGreater : Order::kLess, key, best_key));
      if (!better) continue;
    }
    best = items[i];
    best_key = std::move(key);
  }
  return best;
}

Result GroupBy(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound,
                            Bind("groupby", args, {"value", "attribute", "default", "case_sensitive"}, 2));
  Heap& heap = evaluator.heap();
  HYSPARSE_ASSIGN_OR_RETURN(const std::vector<Value> items, Items(heap, bound[0]));
  const bool case_sensitive = AsFlag(bound[3], false);
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : items) {
    HYSPARSE_ASSIGN_OR_RETURN(Value key, KeyOf(evaluator, item, bound[1], case_sensitive));
    if (key.undefined() && !bound[2].missing() && !bound[2].none()) key = bound[2];
    keyed.emplace_back(std::move(key), item);
  }
  HYSPARSE_RETURN_IF_ERROR(SortValues(heap, &keyed, false));
  std::vector<Value> groups;
  List* members = nullptr;
  Value current;
  for (const auto& [key, item] : keyed) {
    HYSPARSE_ASSIGN_OR_RETURN(const bool same, members == nullptr ? false : Equal(heap, current, key));
    if (!same) {
      HYSPARSE_ASSIGN_OR_RETURN(Value shown, KeyOf(evaluator, item, bound[1], true));
      if (shown.undefined()) shown = key;
      HYSPARSE_ASSIGN_OR_RETURN(const Value list, heap.NewList({}));
      HYSPARSE_ASSIGN_OR_RETURN(const Value group, heap.NewList({shown, list}, true));
      group.as<List>()->group = true;
      members = list.as<List>();
      groups.push_back(group);
      current = key;
    }
    HYSPARSE_RETURN_IF_ERROR(heap.AppendItem(members, item));
  }
  return heap.NewList(std::move(groups));
}

Result Batch(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("batch", args, {"value", "linecount", "fill_with"}, 2));
  HYSPARSE_ASSIGN_OR_RETURN(const int64_t count, AsIndex(bound[1], 0));
  return Lazy(evaluator, [&evaluator, bound, count]() -> absl::StatusOr<std::vector<Value>> {
    Heap& heap = evaluator.heap();
    HYSPARSE_ASSIGN_OR_RETURN(const std::vector<Value> items, Items(heap, bound[0]));
    std::vector<Value> batches;
    List* batch = nullptr;
    for (const Value& item : items) {
      if (batch == nullptr || static_cast<int64_t>(batch->items.size()) == count) {
        HYSPARSE_ASSIGN_OR_RETURN(const Value list, heap.NewList({}));
        batches.push_back(list);
        batch = list.as<List>();
      }
      HYSPARSE_RETURN_IF_ERROR(heap.AppendItem(batch, item));
    }
    const bool fill = batch != nullptr && !bound[2].missing() && !bound[2].none();
    while (fill && static_cast<int64_t>(batch->items.size()) < count) {
      HYSPARSE_RETURN_IF_ERROR(heap.AppendItem(batch, bound[2]));
    }
    return batches;
  });
}

Result SliceFilter(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("slice", args, {"value", "slices", "fill_with"}, 2));
  HYSPARSE_ASSIGN_OR_RETURN(const int64_t slices, AsIndex(bound[1], 1));
  return Lazy(evaluator, [&evaluator, bound, slices]() -> absl::StatusOr<std::vector<Value>> {
    Heap& heap = evaluator.heap();
    HYSPARSE_ASSIGN_OR_RETURN(const std::vector<Value> items, Items(heap, bound[0]));
    if (slices == 0) return Error("integer division or modulo by zero");
    std::vector<Value> result;
    const auto length = static_cast<int64_t>(items.size());
    size_t at = 0;
    for (int64_t i = 0; i < slices; ++i) {
      const int64_t size = length / slices + (i < length % slices);
      std::vector<Value> part;
      for (int64_t j = 0; j < size; ++j) part.push_back(items[at++]);
      if (!bound[2].missing() && !bound[2].none() && i >= length % slices) part.push_back(bound[2]);
      HYSPARSE_ASSIGN_OR_RETURN(Value list, heap.NewList(std::move(part)));
      result.push_back(std::move(list));
    }
    return result;
  });
}

}  // namespace

const Table& SequenceFilters() {
  static const Table& table = *new Table({{"length", LengthFilter},
                                          {"count", LengthFilter},
                                          {"default", Default},
                                          {"d", Default},
                                          {"first", First},
                                          {"last", Last},
                                          {"list", ToList},
                                          {"items", ItemsFilter},
                                          {"reverse", Reverse},
                                          {"dictsort", DictSort},
                                          {"sort", Sort},
                                          {"unique", Unique},
                                          {"min", Extreme<false>},
                                          {"max", Extreme<true>},
                                          {"groupby", GroupBy},
                                          {"batch", Batch},
                                          {"slice", SliceFilter}});
  return table;
}

}  // namespace hysparse::jinja
