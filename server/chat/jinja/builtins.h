// The tables of filters, tests, methods and the helpers their bodies share. Bodies are plain functions of an evaluator
// and their arguments; a misuse is InvalidArgument. The tables are constant; any thread may look.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "server/chat/jinja/heap.h"
#include "server/chat/jinja/value.h"

namespace hysparse::jinja {

class Evaluator;

// Of filters and tests the filtered value is the first positional argument; of methods it is the object.
using Builtin = absl::StatusOr<Value> (*)(Evaluator& evaluator, Args& args);
using Table = absl::flat_hash_map<std::string_view, Builtin>;

Builtin FindFilter(std::string_view name);  // null when there is none
Builtin FindTest(std::string_view name);
Builtin FindMethod(const Value& object, std::string_view name);

const Table& TextFilters();
const Table& SequenceFilters();
const Table& SelectFilters();
const Table& NumberFilters();
const Table& StringMethods();
const Table& SplitMethods();

// The arguments by parameter name, missing where not given. `required` leading ones must be there.
absl::StatusOr<std::vector<Value>> Bind(std::string_view function, const Args& args,
                                        std::initializer_list<std::string_view> names, size_t required);

// An argument as what it must be; a missing one gives `otherwise`.
absl::StatusOr<int64_t> AsIndex(const Value& value, int64_t otherwise);
bool AsFlag(const Value& value, bool otherwise);

// environment.getitem along "a.b.0", or one integer.
absl::StatusOr<Value> AttributePath(Evaluator& evaluator, const Value& value, const Value& path);
// str.isupper and str.islower: some character is of the wanted case and none of another.
bool AllCased(std::string_view text, bool (*wanted)(char32_t), bool (*other)(char32_t));
// str.center
absl::StatusOr<Value> CenterText(Heap& heap, Text text, int64_t width, const Text& fill);

}  // namespace hysparse::jinja
