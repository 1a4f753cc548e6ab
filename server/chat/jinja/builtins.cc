#include "server/chat/jinja/builtins.h"

#include <algorithm>

#include "engine/base/result.h"
#include "server/chat/jinja/cat.h"
#include "server/chat/jinja/operators.h"

namespace hysparse::jinja {

absl::StatusOr<std::vector<Value>> Bind(std::string_view function, const Args& args,
                                        std::initializer_list<std::string_view> names, size_t required) {
  std::vector<Value> bound(names.size());
  if (args.positional.size() > names.size()) return Error(Cat(function, "() takes too many arguments"));
  std::copy(args.positional.begin(), args.positional.end(), bound.begin());
  for (const auto& [name, value] : args.named) {
    const auto* at = std::find(names.begin(), names.end(), name);
    if (at == names.end()) return Error(Cat(function, "() got an unexpected keyword argument '", name, "'"));
    Value& slot = bound[static_cast<size_t>(at - names.begin())];
    if (!slot.missing()) return Error(Cat(function, "() got multiple values for argument '", name, "'"));
    slot = value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (bound[i].missing()) {
      return Error(Cat(function, "() is missing its argument '", *(names.begin() + i), "'"));
    }
  }
  return bound;
}

absl::StatusOr<int64_t> AsIndex(const Value& value, int64_t otherwise) {
  if (value.missing()) return otherwise;
  if (value.undefined()) return UndefinedError(value);
  if (!value.integral()) {
    return Error(Cat("'", TypeName(value), "' object cannot be interpreted as an integer"));
  }
  constexpr Int kLimit = Int{1} << 62;
  return static_cast<int64_t>(std::clamp(value.integer(), -kLimit, kLimit));
}

bool AsFlag(const Value& value, bool otherwise) { return value.missing() ? otherwise : Truthy(value); }

Builtin FindFilter(std::string_view name) {
  for (const Table* table : {&TextFilters(), &SequenceFilters(), &SelectFilters(), &NumberFilters()}) {
    if (auto it = table->find(name); it != table->end()) return it->second;
  }
  return nullptr;
}

}  // namespace hysparse::jinja
