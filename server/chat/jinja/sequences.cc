// Iteration, slicing and sorting: the half of operators.h that is about sequences.
#include <algorithm>

#include "engine/base/result.h"
#include "server/chat/jinja/cat.h"
#include "server/chat/jinja/operators.h"
#include "server/chat/jinja/unicode.h"

namespace hysparse::jinja {

bool Iterable(const Value& value) {
  if (value.undefined() || value.string()) return true;
  if (!value.is(Kind::kObject)) return false;
  switch (value.object()->type) {
    case Type::kNamespace:
    case Type::kFunction:
    case Type::kMacro:
    case Type::kLoop:
      return false;
    default:
      return true;
  }
}

absl::StatusOr<std::vector<Value>> Characters(Heap& heap, const Text& text) {
  const std::string& s = text.str();
  HYSPARSE_RETURN_IF_ERROR(heap.Step(static_cast<int64_t>(s.size())));
  HYSPARSE_RETURN_IF_ERROR(heap.Reserve(s.size() * (sizeof(Value) + sizeof(String))));
  std::vector<Value> result;
  for (size_t i = 0; i < s.size();) {
    const size_t next = i + DecodeAt(s, i).size;
    HYSPARSE_ASSIGN_OR_RETURN(Value character, heap.NewString(text.Slice(i, next)));
    result.push_back(std::move(character));
    i = next;
  }
  return result;
}

namespace {

absl::StatusOr<std::vector<Value>> ViewItems(Heap& heap, const Dict& dict, DictView::Part part) {
  HYSPARSE_RETURN_IF_ERROR(heap.Step(static_cast<int64_t>(dict.items.size())));
  std::vector<Value> result;
  for (const auto& [key, value] : dict.items) {
    if (part == DictView::Part::kItems) {
      HYSPARSE_ASSIGN_OR_RETURN(Value pair, heap.NewList({key, value}, true));
      pair.object()->trusted = dict.trusted;
      result.push_back(std::move(pair));
    } else {
      result.push_back(part == DictView::Part::kKeys ? key : value);
    }
  }
  return result;
}

absl::StatusOr<std::vector<Value>> Consume(Iterator& iterator) {
  if (iterator.make) {
    const Iterator::Make make = std::move(iterator.make);
    iterator.make = nullptr;
    HYSPARSE_ASSIGN_OR_RETURN(iterator.items, make());
  }
  std::vector<Value> rest(iterator.items.begin() + static_cast<ptrdiff_t>(iterator.next), iterator.items.end());
  iterator.items.clear();
  iterator.next = 0;
  return rest;
}

}  // namespace

absl::StatusOr<std::vector<Value>> Items(Heap& heap, const Value& value) {
  if (value.undefined()) return std::vector<Value>();
  if (value.string()) return Characters(heap, value.text());
  if (!Iterable(value)) return Error(Cat("'", TypeName(value), "' object is not iterable"));
  switch (value.object()->type) {
    case Type::kDict:
      return ViewItems(heap, *value.as<Dict>(), DictView::Part::kKeys);
    case Type::kDictView:
      return ViewItems(heap, *value.as<DictView>()->dict, value.as<DictView>()->part);
    case Type::kIterator:
      return Consume(*value.as<Iterator>());
    case Type::kRange: {
      const Range& range = *value.as<Range>();
      HYSPARSE_RETURN_IF_ERROR(heap.Step(range.count));
      HYSPARSE_RETURN_IF_ERROR(heap.Reserve(static_cast<size_t>(range.count) * sizeof(Value)));
      std::vector<Value> result;
      for (int64_t i = 0; i < range.count; ++i) {
        result.push_back(Value::OfInt(Int{range.start} + Int{range.step} * i, range.trusted));
      }
      return result;
    }
    default: {
      const List& list = *value.as<List>();
      HYSPARSE_RETURN_IF_ERROR(heap.Step(static_cast<int64_t>(list.items.size())));
      return list.items;
    }
  }
}

namespace {

using Keyed = std::pair<Value, Value>;

// Merges the sorted halves of [begin, end) by way of `scratch`; equal keys keep their order.
absl::Status Merge(Heap& heap, std::vector<Keyed>* all, size_t begin, size_t middle, size_t end, bool reverse) {
  std::vector<Keyed> scratch;
  scratch.reserve(end - begin);
  size_t left = begin, right = middle;
  while (left < middle && right < end) {
    const Value &l = (*all)[left].first, &r = (*all)[right].first;
    HYSPARSE_ASSIGN_OR_RETURN(const bool swap,
                              reverse ? Ordered(heap, Order::kLess, l, r) : Ordered(heap, Order::kLess, r, l));
    scratch.push_back(std::move((*all)[swap ? right++ : left++]));
  }
  while (left < middle) scratch.push_back(std::move((*all)[left++]));
  while (right < end) scratch.push_back(std::move((*all)[right++]));
  std::move(scratch.begin(), scratch.end(), all->begin() + static_cast<ptrdiff_t>(begin));
  return absl::OkStatus();
}

// A bound of a slice, clipped as Python clips it.
absl::StatusOr<int64_t> Bound(const Value& value, int64_t length, int64_t otherwise, int64_t low, int64_t high) {
  if (value.missing() || value.none()) return otherwise;
  if (!value.integral()) return Error("slice indices must be integers or None");
  Int bound = value.integer();
  if (bound < 0) bound += length;
  return static_cast<int64_t>(std::clamp(bound, Int{low}, Int{high}));
}

}  // namespace

absl::Status SortValues(Heap& heap, std::vector<Keyed>* keyed, bool reverse) {
  for (size_t width = 1; width < keyed->size(); width *= 2) {
    for (size_t begin = 0; begin + width < keyed->size(); begin += 2 * width) {
      HYSPARSE_RETURN_IF_ERROR(
          Merge(heap, keyed, begin, begin + width, std::min(begin + 2 * width, keyed->size()), reverse));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int64_t>> SliceIndices(Heap& heap, int64_t length, const Value& start, const Value& stop,
                                                  const Value& step) {
  for (const Value* part : {&start, &stop, &step}) {
    if (part->undefined()) return Error("slice indices must be integers or None");
  }
  if (!step.missing() && !step.none() && !step.integral()) return Error("slice indices must be integers or None");
  const Int by = step.missing() || step.none() ? Int{1} : step.integer();
  if (by == 0) return Error("slice step cannot be zero");
  const bool up = by > 0;
  HYSPARSE_ASSIGN_OR_RETURN(const int64_t first,
                            Bound(start, length, up ? 0 : length - 1, up ? 0 : -1, up ? length : length - 1));
  HYSPARSE_ASSIGN_OR_RETURN(const int64_t last,
                            Bound(stop, length, up ? length : -1, up ? 0 : -1, up ? length : length - 1));
  std::vector<int64_t> indices;
  for (Int i = first; up ? i < last : i > last; i += by) {
    HYSPARSE_RETURN_IF_ERROR(heap.Step());
    indices.push_back(static_cast<int64_t>(i));
  }
  return indices;
}

}  // namespace hysparse::jinja
