// Filters that apply a filter, a test or an attribute to every item: map, select, reject, selectattr, rejectattr, sum.
#include <algorithm>

#include "absl/strings/numbers.h"
#include "engine/base/result.h"
#include "server/chat/jinja/cat.h"
#include "server/chat/jinja/evaluator.h"
#include "server/chat/jinja/operators.h"

namespace hysparse::jinja {

absl::StatusOr<Value> AttributePath(Evaluator& evaluator, const Value& value, const Value& path) {
  if (!path.string()) return evaluator.GetItem(value, path);
  Value current = value;
  const std::string& s = path.str();
  for (size_t begin = 0; begin <= s.size();) {
    const size_t dot = std::min(s.find('.', begin), s.size());
    const std::string part = s.substr(begin, dot - begin);
    const bool digits = !part.empty() && part.find_first_not_of("0123456789") == std::string::npos;
    int64_t number = 0;
    if (digits && absl::SimpleAtoi(part, &number)) {
      HYSPARSE_ASSIGN_OR_RETURN(current, evaluator.GetItem(current, Value::OfInt(number)));
    } else {
      HYSPARSE_ASSIGN_OR_RETURN(const Value key, evaluator.NewString(path.text().Slice(begin, dot)));
      HYSPARSE_ASSIGN_OR_RETURN(current, evaluator.GetItem(current, key));
    }
    begin = dot + 1;
  }
  return current;
}

namespace {

using Result = absl::StatusOr<Value>;
using Apply = std::function<Result(const Value& item)>;

Result TakeNamed(Args& args, std::string_view name) {
  auto at = std::find_if(args.named.begin(), args.named.end(), [name](const auto& e) { return e.first == name; });
  if (at == args.named.end()) return Value();
  Value value = at->second;
  args.named.erase(at);
  return value;
}

// What map does to an item: an attribute path, or a filter by name with the remaining arguments.
absl::StatusOr<Apply> Mapper(Evaluator& evaluator, Args args) {
  if (args.positional.size() == 1) {
    HYSPARSE_ASSIGN_OR_RETURN(const Value attribute, TakeNamed(args, "attribute"));
    if (!attribute.missing()) {
      HYSPARSE_ASSIGN_OR_RETURN(const Value otherwise, TakeNamed(args, "default"));
      if (!args.named.empty()) return Error(Cat("Unexpected keyword argument '", args.named[0].first, "'"));
      return Apply([&evaluator, attribute, otherwise](const Value& item) -> Result {
        if (attribute.none()) return item;
        HYSPARSE_ASSIGN_OR_RETURN(Value value, AttributePath(evaluator, item, attribute));
        const bool replace = value.undefined() && !otherwise.missing() && !otherwise.none();
        return replace ? otherwise : value;
      });
    }
    return Error("map requires a filter argument");
  }
  if (!args.positional[1].string()) return Error("map requires the name of a filter");
  const std::string name = args.positional[1].str();
  args.positional.erase(args.positional.begin() + 1);
  return Apply([&evaluator, name, args](const Value& item) {
    Args call = args;
    call.positional[0] = item;
    return evaluator.CallFilter(name, call);
  });
}

Result Map(Evaluator& evaluator, Args& args) {
  if (args.positional.empty()) return Error("map needs a value");
  auto make = [&evaluator, args]() -> absl::StatusOr<std::vector<Value>> {
    std::vector<Value> result;
    if (!Truthy(args.positional[0])) return result;
    HYSPARSE_ASSIGN_OR_RETURN(const Apply apply, Mapper(evaluator, args));
    HYSPARSE_ASSIGN_OR_RETURN(const std::vector<Value> items, Items(evaluator.heap(), args.positional[0]));
    for (const Value& item : items) {
      HYSPARSE_ASSIGN_OR_RETURN(Value mapped, apply(item));
      result.push_back(std::move(mapped));
    }
    return result;
  };
  HYSPARSE_ASSIGN_OR_RETURN(Iterator * iterator, evaluator.heap().New<Iterator>(0, std::move(make)));
  return Value::OfObject(iterator);
}

// select and its kin. `attribute`: the first argument is a path; the next names a test, without which truth decides.
absl::StatusOr<std::vector<Value>> Chosen(Evaluator& evaluator, const Args& args, bool attribute, bool keep) {
  std::vector<Value> result;
  if (!Truthy(args.positional[0])) return result;
  size_t next = 1;
  Value path;
  if (attribute) {
    if (args.positional.size() < 2) return Error("Missing parameter for attribute name");
    path = args.positional[next++];
  }
  const bool tested = next < args.positional.size();
  if (tested && !args.positional[next].string()) return Error("the name of a test is expected");
  HYSPARSE_ASSIGN_OR_RETURN(const std::vector<Value> items, Items(evaluator.heap(), args.positional[0]));
  for (const Value& item : items) {
    Value value = item;
    if (attribute && !path.none()) {
      HYSPARSE_ASSIGN_OR_RETURN(value, AttributePath(evaluator, item, path));
    }
    bool truth = Truthy(value);
    if (tested) {
      Args call;
      call.positional = {value};
      call.positional.insert(call.positional.end(), args.positional.begin() + static_cast<ptrdiff_t>(next) + 1,
                             args.positional.end());
      call.named = args.named;
      HYSPARSE_ASSIGN_OR_RETURN(const Value verdict, evaluator.CallTest(args.positional[next].str(), call));
      truth = Truthy(verdict);
    }
    if (truth == keep) result.push_back(item);
  }
  return result;
}

template <bool kAttribute, bool kKeep>
Result Choose(Evaluator& evaluator, Args& args) {
  if (args.positional.empty()) return Error("a value is needed");
  auto make = [&evaluator, args]() { return Chosen(evaluator, args, kAttribute, kKeep); };
  HYSPARSE_ASSIGN_OR_RETURN(Iterator * iterator, evaluator.heap().New<Iterator>(0, std::move(make)));
  return Value::OfObject(iterator);
}

Result Sum(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("sum", args, {"iterable", "attribute", "start"}, 1));
  HYSPARSE_ASSIGN_OR_RETURN(const std::vector<Value> items, Items(evaluator.heap(), bound[0]));
  Value sum = bound[2].missing() ? Value::OfInt(0) : bound[2];
  if (sum.string()) return Error("sum() can't sum strings [use ''.join(seq) instead]");
  for (Value item : items) {
    if (!bound[1].missing() && !bound[1].none()) {
      HYSPARSE_ASSIGN_OR_RETURN(item, AttributePath(evaluator, item, bound[1]));
    }
    HYSPARSE_ASSIGN_OR_RETURN(sum, Arithmetic(evaluator.heap(), "+", sum, item));
  }
  return sum;
}

Result Attr(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("attr", args, {"obj", "name"}, 2));
  if (!bound[1].string()) return Error("attribute name must be string");
  if (bound[0].as<Dict>() != nullptr && FindMethod(bound[0], bound[1].str()) == nullptr) {
    return Value::OfUndefined(Cat("'dict object' has no attribute '", bound[1].str(), "'"));
  }
  return evaluator.GetAttribute(bound[0], bound[1].str());
}

}  // namespace

const Table& SelectFilters() {
  static const Table& table = *new Table({{"map", Map},
                                          {"select", Choose<false, true>},
                                          {"reject", Choose<false, false>},
                                          {"selectattr", Choose<true, true>},
                                          {"rejectattr", Choose<true, false>},
                                          {"sum", Sum},
                                          {"attr", Attr}});
  return table;
}

}  // namespace hysparse::jinja
