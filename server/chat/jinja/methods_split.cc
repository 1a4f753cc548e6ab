// Methods of strings that take them apart or put them together.
#include "engine/base/result.h"
#include "server/chat/jinja/cat.h"
#include "server/chat/jinja/evaluator.h"
#include "server/chat/jinja/operators.h"
#include "server/chat/jinja/print.h"
#include "server/chat/jinja/text_ops.h"

namespace hysparse::jinja {
namespace {

using Result = absl::StatusOr<Value>;

Result ListOf(Evaluator& evaluator, std::vector<Text> parts) {
  HYSPARSE_RETURN_IF_ERROR(evaluator.heap().Reserve(parts.size() * (sizeof(String) + sizeof(Value))));
  std::vector<Value> items;
  for (Text& part : parts) {
    HYSPARSE_ASSIGN_OR_RETURN(Value item, evaluator.NewString(std::move(part)));
    items.push_back(std::move(item));
  }
  return evaluator.heap().NewList(std::move(items));
}

template <Side kSide>
Result StripMethod(Evaluator& evaluator, Args& args) {
  if (!args.named.empty()) return Error("strip() takes no keyword arguments");
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("strip", args, {"self", "chars"}, 1));
  const bool chars = !bound[1].missing() && !bound[1].none();
  if (chars && !bound[1].string()) return Error("strip arg must be None or str");
  return evaluator.NewString(Strip(bound[0].text(), chars ? &bound[1].str() : nullptr, kSide));
}

template <bool kFromRight>
Result SplitMethod(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("split", args, {"self", "sep", "maxsplit"}, 1));
  const bool separated = !bound[1].missing() && !bound[1].none();
  if (separated && !bound[1].string()) return Error(Cat("must be str or None, not ", TypeName(bound[1])));
  if (separated && bound[1].text().empty()) return Error("empty separator");
  HYSPARSE_ASSIGN_OR_RETURN(const int64_t limit, AsIndex(bound[2], -1));
  const Text& text = bound[0].text();
  HYSPARSE_RETURN_IF_ERROR(evaluator.heap().StepBytes(text.size()));
  HYSPARSE_RETURN_IF_ERROR(evaluator.heap().Reserve(text.bytes()));
  return ListOf(evaluator, Split(text, separated ? bound[1].str() : "", limit < 0 ? -1 : limit, kFromRight));
}

Result SplitLinesMethod(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("splitlines", args, {"self", "keepends"}, 1));
  HYSPARSE_RETURN_IF_ERROR(evaluator.heap().StepBytes(bound[0].text().size()));
  return ListOf(evaluator, SplitLines(bound[0].text(), AsFlag(bound[1], false)));
}

template <bool kFromRight>
Result Partition(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("partition", args, {"self", "sep"}, 2));
  if (!bound[1].string()) return Error(Cat("must be str, not ", TypeName(bound[1])));
  const std::string& separator = bound[1].str();
  if (separator.empty()) return Error("empty separator");
  const Text& text = bound[0].text();
  HYSPARSE_RETURN_IF_ERROR(evaluator.heap().StepBytes(text.size()));
  const size_t at = kFromRight ? FindLastBytes(text.str(), separator) : FindBytes(text.str(), separator, 0);
  std::vector<Text> parts;
  if (at == std::string::npos) {
    parts = kFromRight ? std::vector<Text>{Text(), Text(), text} : std::vector<Text>{text, Text(), Text()};
  } else {
    const size_t behind = at + separator.size();
    parts = {text.Slice(0, at), bound[1].text(), text.Slice(behind, text.size())};
  }
  HYSPARSE_ASSIGN_OR_RETURN(const Value list, ListOf(evaluator, std::move(parts)));
  return evaluator.heap().NewList(list.as<List>()->items, true);
}

Result ReplaceMethod(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("replace", args, {"self", "old", "new", "count"}, 3));
  if (!bound[1].string() || !bound[2].string()) return Error("replace() arguments must be str");
  HYSPARSE_ASSIGN_OR_RETURN(const int64_t count, AsIndex(bound[3], -1));
  HYSPARSE_ASSIGN_OR_RETURN(Text out,
                            Replace(evaluator.heap(), bound[0].text(), bound[1].text(), bound[2].text(), count));
  return evaluator.NewString(std::move(out));
}

Result JoinMethod(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("join", args, {"self", "iterable"}, 2));
  Heap& heap = evaluator.heap();
  HYSPARSE_ASSIGN_OR_RETURN(const std::vector<Value> items, Items(heap, bound[1]));
  Text out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!items[i].string()) {
      return Error(Cat("sequence item ", i, ": expected str instance, ", TypeName(items[i]), " found"));
    }
    if (i > 0) HYSPARSE_RETURN_IF_ERROR(AppendStr(heap, bound[0], &out));
    HYSPARSE_RETURN_IF_ERROR(AppendStr(heap, items[i], &out));
  }
  return evaluator.NewString(std::move(out));
}

template <bool kEnd>
Result RemoveAffix(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("removeprefix", args, {"self", "affix"}, 2));
  if (!bound[1].string()) return Error("the argument must be str");
  const Text& text = bound[0].text();
  const std::string& affix = bound[1].str();
  const bool there = kEnd ? text.str().ends_with(affix) : text.str().starts_with(affix);
  if (!there) return bound[0];
  return evaluator.NewString(kEnd ? text.Slice(0, text.size() - affix.size()) : text.Slice(affix.size(), text.size()));
}

}  // namespace

const Table& SplitMethods() {
  static const Table& table = *new Table({{"strip", StripMethod<Side::kBoth>},
                                          {"lstrip", StripMethod<Side::kLeft>},
                                          {"rstrip", StripMethod<Side::kRight>},
                                          {"split", SplitMethod<false>},
                                          {"rsplit", SplitMethod<true>},
                                          {"splitlines", SplitLinesMethod},
                                          {"partition", Partition<false>},
                                          {"rpartition", Partition<true>},
                                          {"replace", ReplaceMethod},
                                          {"join", JoinMethod},
                                          {"removeprefix", RemoveAffix<false>},
                                          {"removesuffix", RemoveAffix<true>}});
  return table;
}

}  // namespace hysparse::jinja
