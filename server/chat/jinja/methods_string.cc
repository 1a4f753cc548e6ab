// Methods of strings that keep them whole: case, padding, search and predicates.
#include <algorithm>

#include "absl/strings/ascii.h"
#include "engine/base/result.h"
#include "server/chat/jinja/cat.h"
#include "server/chat/jinja/evaluator.h"
#include "server/chat/jinja/operators.h"
#include "server/chat/jinja/print.h"
#include "server/chat/jinja/str_format.h"
#include "server/chat/jinja/unicode.h"

namespace hysparse::jinja {
namespace {

using Result = absl::StatusOr<Value>;

template <Case kCase>
Result ChangeCaseMethod(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("method", args, {"self"}, 1));
  HYSPARSE_RETURN_IF_ERROR(evaluator.heap().Step(static_cast<int64_t>(bound[0].text().size() / 2)));
  return evaluator.NewString(ChangeCase(bound[0].text(), kCase));
}

// The part of a string that the optional start and end (in code points) select, as byte offsets; false when it is empty
// because start lies beyond the end.
absl::StatusOr<bool> Window(const std::string& s, const Value& start, const Value& end, size_t* from, size_t* to) {
  const auto length = static_cast<int64_t>(Length(s));
  HYSPARSE_ASSIGN_OR_RETURN(int64_t first, AsIndex(start.none() ? Value() : start, 0));
  HYSPARSE_ASSIGN_OR_RETURN(int64_t last, AsIndex(end.none() ? Value() : end, length));
  if (first < 0) first = std::max<int64_t>(first + length, 0);
  if (last < 0) last = std::max<int64_t>(last + length, 0);
  last = std::min(last, length);
  if (first > last) return false;
  *from = OffsetOf(s, static_cast<size_t>(first));
  *to = OffsetOf(s, static_cast<size_t>(last));
  return true;
}

template <bool kEnd>
Result Affix(Evaluator& evaluator, Args& args) {
  const std::string_view name = kEnd ? "endswith" : "startswith";
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind(name, args, {"self", "affix", "start", "end"}, 2));
  std::vector<Value> candidates = {bound[1]};
  const List* list = bound[1].as<List>();
  if (list != nullptr && list->type == Type::kTuple) candidates = list->items;
  size_t from = 0, to = 0;
  HYSPARSE_ASSIGN_OR_RETURN(const bool window, Window(bound[0].str(), bound[2], bound[3], &from, &to));
  const std::string_view s = window ? std::string_view(bound[0].str()).substr(from, to - from) : std::string_view();
  for (const Value& candidate : candidates) {
    if (!candidate.string())
      return Error(Cat(name, " first arg must be str or a tuple of str, not ", TypeName(candidate)));
    HYSPARSE_RETURN_IF_ERROR(evaluator.heap().StepBytes(candidate.text().size()));
    const std::string& affix = candidate.str();
    if (window && (kEnd ? s.ends_with(affix) : s.starts_with(affix))) return Value::OfBool(true);
  }
  return Value::OfBool(false);
}

enum class Search { kFind, kRFind, kIndex, kRIndex, kCount };

template <Search kSearch>
Result Find(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("find", args, {"self", "sub", "start", "end"}, 2));
  if (!bound[1].string()) return Error(Cat("must be str, not ", TypeName(bound[1])));
  const std::string &s = bound[0].str(), &sub = bound[1].str();
  HYSPARSE_RETURN_IF_ERROR(evaluator.heap().StepBytes(s.size()));
  size_t from = 0, to = 0;
  HYSPARSE_ASSIGN_OR_RETURN(const bool window, Window(s, bound[2], bound[3], &from, &to));
  const std::string_view part = window ? std::string_view(s).substr(from, to - from) : std::string_view();
  if (kSearch == Search::kCount) {
    if (!window) return Value::OfInt(0);
    if (sub.empty()) return Value::OfInt(static_cast<Int>(Length(part)) + 1);
    Int count = 0;
    for (size_t at = 0; (at = FindBytes(part, sub, at)) != std::string::npos; at += sub.size()) ++count;
    return Value::OfInt(count);
  }
  const bool last = kSearch == Search::kRFind || kSearch == Search::kRIndex;
  const size_t at = !window ? std::string::npos : last ? FindLastBytes(part, sub) : FindBytes(part, sub, 0);
  if (at != std::string::npos) return Value::OfInt(static_cast<Int>(Length(std::string_view(s).substr(0, from + at))));
  if (kSearch == Search::kIndex || kSearch == Search::kRIndex) return Error("substring not found");
  return Value::OfInt(-1);
}

enum class Justify { kLeft, kRight, kCenter };

template <Justify kJustify>
Result Just(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("just", args, {"self", "width", "fillchar"}, 2));
  HYSPARSE_ASSIGN_OR_RETURN(const int64_t width, AsIndex(bound[1], 0));
  const Text fill = bound[2].string() ? bound[2].text() : Text(" ", true);
  if ((!bound[2].missing() && !bound[2].string()) || Length(fill.str()) != 1) {
    return Error("The fill character must be exactly one character long");
  }
  Heap& heap = evaluator.heap();
  if (kJustify == Justify::kCenter) return CenterText(heap, bound[0].text(), width, fill);
  HYSPARSE_ASSIGN_OR_RETURN(const Value padding,
                            Repeat(heap, fill, width - static_cast<int64_t>(Length(bound[0].str()))));
  return kJustify == Justify::kLeft ? Concatenate(heap, bound[0].text(), padding.text())
                                    : Concatenate(heap, padding.text(), bound[0].text());
}

Result ZFill(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("zfill", args, {"self", "width"}, 2));
  HYSPARSE_ASSIGN_OR_RETURN(const int64_t width, AsIndex(bound[1], 0));
  const Text& text = bound[0].text();
  HYSPARSE_ASSIGN_OR_RETURN(
      const Value zeros, Repeat(evaluator.heap(), Text("0", true), width - static_cast<int64_t>(Length(text.str()))));
  const bool sign = !text.empty() && (text.str()[0] == '-' || text.str()[0] == '+');
  Text out = text.Slice(0, sign);
  out.Append(zeros.text());
  out.Append(text, sign, text.size());
  return evaluator.NewString(std::move(out));
}

template <bool (*kCharacter)(char32_t)>
Result All(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("method", args, {"self"}, 1));
  const std::string& s = bound[0].str();
  HYSPARSE_RETURN_IF_ERROR(evaluator.heap().StepBytes(s.size()));
  for (size_t i = 0; i < s.size();) {
    const CodePoint c = DecodeAt(s, i);
    if (!kCharacter(c.value)) return Value::OfBool(false);
    i += c.size;
  }
  return Value::OfBool(!s.empty());
}

template <bool (*kWanted)(char32_t), bool (*kOther)(char32_t)>
Result Cased(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("method", args, {"self"}, 1));
  HYSPARSE_RETURN_IF_ERROR(evaluator.heap().StepBytes(bound[0].text().size()));
  return Value::OfBool(AllCased(bound[0].str(), kWanted, kOther));
}

bool IsAlnum(char32_t c) { return IsAlpha(c) || IsNumeric(c); }
// The superscripts and subscripts that Python counts as digits though they are no decimals.
bool IsDigit(char32_t c) {
  return IsDecimal(c) || c == 0xb2 || c == 0xb3 || c == 0xb9 || c == 0x2070 || (c >= 0x2074 && c <= 0x2079) ||
         (c >= 0x2080 && c <= 0x2089);
}

Result Format(Evaluator& evaluator, Args& args) {
  const Value self = args.positional[0];
  args.positional.erase(args.positional.begin());
  HYSPARSE_ASSIGN_OR_RETURN(Text text, FormatBraces(evaluator, self.text(), args));
  return evaluator.NewString(std::move(text));
}

}  // namespace

const Table& StringMethods() {
  static const Table& table = *new Table({{"upper", ChangeCaseMethod<Case::kUpper>},
                                          {"lower", ChangeCaseMethod<Case::kLower>},
                                          {"capitalize", ChangeCaseMethod<Case::kCapitalize>},
                                          {"title", ChangeCaseMethod<Case::kTitle>},
                                          {"swapcase", ChangeCaseMethod<Case::kSwap>},
                                          {"startswith", Affix<false>},
                                          {"endswith", Affix<true>},
                                          {"find", Find<Search::kFind>},
                                          {"rfind", Find<Search::kRFind>},
                                          {"index", Find<Search::kIndex>},
                                          {"rindex", Find<Search::kRIndex>},
                                          {"count", Find<Search::kCount>},
                                          {"ljust", Just<Justify::kLeft>},
                                          {"rjust", Just<Justify::kRight>},
                                          {"center", Just<Justify::kCenter>},
                                          {"zfill", ZFill},
                                          {"isspace", All<IsSpace>},
                                          {"isalpha", All<IsAlpha>},
                                          {"isalnum", All<IsAlnum>},
                                          {"isdecimal", All<IsDecimal>},
                                          {"isdigit", All<IsDigit>},
                                          {"isnumeric", All<IsNumeric>},
                                          {"isupper", Cased<IsUpper, IsLower>},
                                          {"islower", Cased<IsLower, IsUpper>},
                                          {"format", Format}});
  return table;
}

}  // namespace hysparse::jinja
