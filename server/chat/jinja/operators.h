// Python's operators on values: truth, equality, order, hashing, membership, arithmetic, iteration. Pure but for what
// they allocate and count in the heap; one thread. A misuse that Python answers with an exception is InvalidArgument.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/chat/jinja/heap.h"
#include "server/chat/jinja/value.h"

namespace hysparse::jinja {

absl::Status Error(std::string_view what);
// The error that using an undefined value raises.
absl::Status UndefinedError(const Value& value);

std::string_view TypeName(const Value& value);  // as Python's type(value).__name__
bool Truthy(const Value& value);
absl::StatusOr<bool> Equal(Heap& heap, const Value& a, const Value& b, int depth = 0);
enum class Order { kLess, kLessEqual, kGreater, kGreaterEqual };
absl::StatusOr<bool> Ordered(Heap& heap, Order order, const Value& a, const Value& b, int depth = 0);
absl::StatusOr<bool> Contains(Heap& heap, const Value& container, const Value& item);
// Equal strings exactly for keys that Python holds equal; an error for lists and dicts.
absl::StatusOr<std::string> HashKey(Heap& heap, const Value& key, int depth = 0);
// a op b for + - * / // % **.
absl::StatusOr<Value> Arithmetic(Heap& heap, std::string_view op, const Value& a, const Value& b);
absl::StatusOr<Value> Negate(const Value& value);
absl::StatusOr<Value> Concatenate(Heap& heap, const Text& a, const Text& b);
absl::StatusOr<Value> Repeat(Heap& heap, const Text& text, Int count);

bool Iterable(const Value& value);
// What iterating over the value yields; consumes an iterator. An undefined value yields nothing.
absl::StatusOr<std::vector<Value>> Items(Heap& heap, const Value& value);
// The length as len() gives it; -1 for what has none.
int64_t LengthOf(const Value& value);
// Stable, ascending by `<`.
absl::Status SortValues(Heap& heap, std::vector<std::pair<Value, Value>>* keyed, bool reverse);
absl::StatusOr<std::vector<Value>> Characters(Heap& heap, const Text& text);
// items[start:stop:step] as indices into a sequence of `length`; bounds that are missing or none mean Python's
// defaults.
absl::StatusOr<std::vector<int64_t>> SliceIndices(Heap& heap, int64_t length, const Value& start, const Value& stop,
                                                  const Value& step);

}  // namespace hysparse::jinja
