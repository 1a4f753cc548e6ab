// The functions a template finds: range, namespace, dict, raise_exception, strftime_now, joiner.
#include <algorithm>
#include <ctime>
#include <iterator>

#include "engine/base/result.h"
#include "server/chat/jinja/cat.h"
#include "server/chat/jinja/evaluator.h"
#include "server/chat/jinja/operators.h"
#include "server/chat/jinja/print.h"

namespace hysparse::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // as Jinja's sandbox
constexpr Int kLimit = Int{1} << 62;    // of a range's bounds

absl::StatusOr<Value> MakeRange(Evaluator& evaluator, Args& args) {
  if (!args.named.empty()) return Error("range() takes no keyword arguments");
  if (args.positional.empty() || args.positional.size() > 3) return Error("range expected 1 to 3 arguments");
  bool trusted = true;
  Int bounds[3] = {0, 0, 1};
  for (size_t i = 0; i < args.positional.size(); ++i) {
    const Value& value = args.positional[i];
    if (!value.integral()) {
      return Error(Cat("'", TypeName(value), "' object cannot be interpreted as an integer"));
    }
    bounds[args.positional.size() == 1 ? 1 : i] = value.integer();
    trusted = trusted && value.trusted();
  }
  const auto [start, stop, step] = bounds;
  if (step == 0) return Error("range() arg 3 must not be zero");
  const Int count = step > 0 ? (stop > start ? (stop - start - 1) / step + 1 : 0)
                             : (start > stop ? (start - stop - 1) / -step + 1 : 0);
  const bool clipped =
      std::any_of(std::begin(bounds), std::end(bounds), [](Int b) { return b > kLimit || b < -kLimit; });
  if (count > 1 && clipped) return Error("range bounds are too large");
  if (count > kMaxRange) return Error("Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).");
  auto narrow = [](Int value) { return static_cast<int64_t>(std::clamp(value, -kLimit, kLimit)); };
  HYSPARSE_ASSIGN_OR_RETURN(Range * range,
                            evaluator.heap().New<Range>(0, narrow(start), narrow(stop), narrow(step), narrow(count)));
  range->trusted = trusted;
  return Value::OfObject(range);
}

// dict(mapping or pairs, **named)
absl::StatusOr<Dict*> FillDict(Evaluator& evaluator, Args& args) {
  Heap& heap = evaluator.heap();
  HYSPARSE_ASSIGN_OR_RETURN(Dict * dict, heap.NewDict());
  if (args.positional.size() > 1) return Error("dict expected at most 1 argument");
  if (!args.positional.empty()) {
    const Value& from = args.positional[0];
    if (const Dict* other = from.as<Dict>(); other != nullptr) {
      dict->trusted = other->trusted;
      for (const auto& [key, value] : other->items) HYSPARSE_RETURN_IF_ERROR(heap.SetItem(dict, key, value));
    } else {
      HYSPARSE_ASSIGN_OR_RETURN(const std::vector<Value> pairs, Items(heap, from));
      for (const Value& pair : pairs) {
        HYSPARSE_ASSIGN_OR_RETURN(const std::vector<Value> parts, Items(heap, pair));
        if (parts.size() != 2) return Error("dictionary update sequence elements must have length 2");
        HYSPARSE_RETURN_IF_ERROR(heap.SetItem(dict, parts[0], parts[1]));
      }
    }
  }
  for (auto& [name, value] : args.named) {
    HYSPARSE_ASSIGN_OR_RETURN(const Value key, heap.NewString(name, true));
    HYSPARSE_RETURN_IF_ERROR(heap.SetItem(dict, key, std::move(value)));
  }
  return dict;
}

absl::StatusOr<Value> MakeDict(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(Dict * dict, FillDict(evaluator, args));
  return Value::OfObject(dict);
}

absl::StatusOr<Value> MakeNamespace(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(Namespace * space, evaluator.heap().New<Namespace>(0));
  HYSPARSE_ASSIGN_OR_RETURN(space->values, FillDict(evaluator, args));
  return Value::OfObject(space);
}

absl::StatusOr<Value> RaiseException(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("raise_exception", args, {"message"}, 1));
  HYSPARSE_ASSIGN_OR_RETURN(const Text text, ToText(evaluator.heap(), bound[0]));
  return absl::InvalidArgumentError(text.str());
}

absl::StatusOr<Value> StrftimeNow(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("strftime_now", args, {"format"}, 1));
  if (!bound[0].string()) return Error("strftime() argument 1 must be str");
  const std::string& format = bound[0].str();
  if (format.size() > 1000) return Error("the date format is too long");
  const std::time_t seconds = Evaluator::WallClock::to_time_t(evaluator.now());
  std::tm local{};
  localtime_r(&seconds, &local);
  std::string out(format.size() * 64 + 2, '\0');
  // A sign in front tells an empty result from one that did not fit.
  out.resize(std::strftime(out.data(), out.size(), Cat("+", format).c_str(), &local));
  if (out.empty()) return Error("the date format yields too much text");
  return evaluator.NewString(Text(std::string_view(out).substr(1), bound[0].text().trusted()));
}

absl::StatusOr<Value> MakeJoiner(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("joiner", args, {"sep"}, 0));
  Value separator = bound[0];
  if (separator.missing()) {
    HYSPARSE_ASSIGN_OR_RETURN(separator, evaluator.NewString(Text(", ", true)));
  }
  HYSPARSE_ASSIGN_OR_RETURN(const Value nothing, evaluator.NewString(Text()));
  auto body = [separator, nothing, used = false](Args&) mutable -> absl::StatusOr<Value> {
    return std::exchange(used, true) ? separator : nothing;
  };
  HYSPARSE_ASSIGN_OR_RETURN(Function * function, evaluator.heap().New<Function>(0, "joiner", std::move(body)));
  return Value::OfObject(function);
}

}  // namespace

void SetGlobals(Evaluator* evaluator) {
  using Maker = absl::StatusOr<Value> (*)(Evaluator&, Args&);
  const std::pair<const char*, Maker> makers[] = {{"range", MakeRange},          {"dict", MakeDict},
                                                  {"namespace", MakeNamespace},  {"raise_exception", RaiseException},
                                                  {"strftime_now", StrftimeNow}, {"joiner", MakeJoiner}};
  for (const auto& [name, maker] : makers) {
    auto function = evaluator->heap().New<Function>(
        0, name, [evaluator, maker = maker](Args& args) { return maker(*evaluator, args); });
    if (function.ok()) evaluator->SetVariable(name, Value::OfObject(*function));
  }
}

}  // namespace hysparse::jinja
