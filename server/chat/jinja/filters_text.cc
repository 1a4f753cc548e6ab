// Filters that make text.
#include <algorithm>

#include "engine/base/result.h"
#include "server/chat/jinja/cat.h"
#include "server/chat/jinja/evaluator.h"
#include "server/chat/jinja/format.h"
#include "server/chat/jinja/operators.h"
#include "server/chat/jinja/print.h"
#include "server/chat/jinja/text_ops.h"
#include "server/chat/jinja/unicode.h"

namespace hysparse::jinja {
namespace {

using Result = absl::StatusOr<Value>;

template <Case kCase>
Result ChangeCaseFilter(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("filter", args, {"s"}, 1));
  HYSPARSE_ASSIGN_OR_RETURN(const Text text, ToText(evaluator.heap(), bound[0]));
  HYSPARSE_RETURN_IF_ERROR(evaluator.heap().Step(static_cast<int64_t>(text.size() / 2)));
  return evaluator.NewString(ChangeCase(text, kCase));
}

// Jinja's own rule: a word begins behind whitespace and - ( { [ <.
Result Title(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("title", args, {"s"}, 1));
  HYSPARSE_ASSIGN_OR_RETURN(const Text text, ToText(evaluator.heap(), bound[0]));
  const std::string& s = text.str();
  HYSPARSE_RETURN_IF_ERROR(evaluator.heap().Step(static_cast<int64_t>(s.size() / 2)));
  auto separates = [](char32_t c) { return IsSpace(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<'; };
  Text out;
  for (size_t i = 0; i < s.size();) {
    const CodePoint first = DecodeAt(s, i);
    size_t end = i + first.size;
    if (separates(first.value)) {
      out.Append(text, i, end);
    } else {
      while (end < s.size() && !separates(DecodeAt(s, end).value)) end += DecodeAt(s, end).size;
      out.Append(ChangeCase(text.Slice(i, i + first.size), Case::kUpper));
      out.Append(ChangeCase(text.Slice(i + first.size, end), Case::kLower));
    }
    i = end;
  }
  return evaluator.NewString(std::move(out));
}

Result ToString(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("string", args, {"object"}, 1));
  if (bound[0].string()) return bound[0];
  HYSPARSE_ASSIGN_OR_RETURN(Text text, ToText(evaluator.heap(), bound[0]));
  return evaluator.NewString(std::move(text));
}

Result Trim(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("trim", args, {"value", "chars"}, 1));
  HYSPARSE_ASSIGN_OR_RETURN(const Text text, ToText(evaluator.heap(), bound[0]));
  const bool chars = !bound[1].missing() && !bound[1].none();
  if (chars && !bound[1].string()) return Error("strip arg must be None or str");
  return evaluator.NewString(Strip(text, chars ? &bound[1].str() : nullptr, Side::kBoth));
}

Result ReplaceFilter(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("replace", args, {"s", "old", "new", "count"}, 3));
  Heap& heap = evaluator.heap();
  HYSPARSE_ASSIGN_OR_RETURN(const Text text, ToText(heap, bound[0]));
  HYSPARSE_ASSIGN_OR_RETURN(const Text from, ToText(heap, bound[1]));
  HYSPARSE_ASSIGN_OR_RETURN(const Text to, ToText(heap, bound[2]));
  HYSPARSE_ASSIGN_OR_RETURN(const int64_t count, AsIndex(bound[3].none() ? Value() : bound[3], -1));
  HYSPARSE_ASSIGN_OR_RETURN(Text out, Replace(heap, text, from, to, count));
  return evaluator.NewString(std::move(out));
}

Result Format(Evaluator& evaluator, Args& args) {
  if (args.positional.empty()) return Error("format needs a value");
  HYSPARSE_ASSIGN_OR_RETURN(const Text text, ToText(evaluator.heap(), args.positional[0]));
  Heap& heap = evaluator.heap();
  Value values;
  if (!args.named.empty()) {
    if (args.positional.size() > 1) return Error("can't handle positional and keyword arguments at the same time");
    HYSPARSE_ASSIGN_OR_RETURN(Dict * dict, heap.NewDict());
    for (auto& [name, value] : args.named) {
      HYSPARSE_ASSIGN_OR_RETURN(const Value key, heap.NewString(name, true));
      HYSPARSE_RETURN_IF_ERROR(heap.SetItem(dict, key, value));
    }
    values = Value::OfObject(dict);
  } else {
    HYSPARSE_ASSIGN_OR_RETURN(values, heap.NewList({args.positional.begin() + 1, args.positional.end()}, true));
  }
  HYSPARSE_ASSIGN_OR_RETURN(Text out, FormatPercent(heap, text, values));
  return evaluator.NewString(std::move(out));
}

Result Indent(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("indent", args, {"s", "width", "first", "blank"}, 1));
  if (bound[0].undefined()) return UndefinedError(bound[0]);
  if (!bound[0].string()) return Error(Cat("can only indent a str, not ", TypeName(bound[0])));
  Text indention;
  if (bound[1].string()) {
    indention = bound[1].text();
  } else {
    HYSPARSE_ASSIGN_OR_RETURN(const int64_t width, AsIndex(bound[1], 4));
    if (width > 10'000) return Error("the indentation is too wide");
    indention = Text(std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' '), true);
  }
  const bool first = AsFlag(bound[2], false), blank = AsFlag(bound[3], false);
  Heap& heap = evaluator.heap();
  Text source = bound[0].text();
  HYSPARSE_RETURN_IF_ERROR(heap.Step(static_cast<int64_t>(source.size() / 2)));
  source.Append("\n", true);
  const std::vector<Text> lines = SplitLines(source, false);
  Text out;
  for (size_t i = 0; i < lines.size(); ++i) {
    HYSPARSE_RETURN_IF_ERROR(heap.StepBytes(indention.size() + lines[i].size()));
    HYSPARSE_RETURN_IF_ERROR(heap.Reserve(2 * (out.bytes() + indention.bytes() + lines[i].bytes())));
    if (i > 0) out.Append("\n", true);
    if (i == 0 ? first : blank || !lines[i].empty()) out.Append(indention);
    out.Append(lines[i]);
  }
  return evaluator.NewString(std::move(out));
}

Result Join(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("join", args, {"value", "d", "attribute"}, 1));
  Heap& heap = evaluator.heap();
  HYSPARSE_ASSIGN_OR_RETURN(const std::vector<Value> items, Items(heap, bound[0]));
  Text separator;
  if (!bound[1].missing()) {
    HYSPARSE_ASSIGN_OR_RETURN(separator, ToText(heap, bound[1]));
  }
  Text out;
  for (size_t i = 0; i < items.size(); ++i) {
    Value item = items[i];
    if (!bound[2].missing() && !bound[2].none()) {
      HYSPARSE_ASSIGN_OR_RETURN(item, AttributePath(evaluator, item, bound[2]));
    }
    if (i > 0) out.Append(separator);
    HYSPARSE_RETURN_IF_ERROR(heap.StepBytes(separator.size()));
    HYSPARSE_RETURN_IF_ERROR(AppendStr(heap, item, &out));
  }
  return evaluator.NewString(std::move(out));
}

Result Truncate(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("truncate", args, {"s", "length", "killwords", "end", "leeway"}, 1));
  HYSPARSE_ASSIGN_OR_RETURN(const int64_t length, AsIndex(bound[1], 255));
  HYSPARSE_ASSIGN_OR_RETURN(const int64_t leeway, AsIndex(bound[4].none() ? Value() : bound[4], 5));
  if (!bound[3].missing() && !bound[3].string()) return Error("truncate's end must be a string");
  const Text end = bound[3].missing() ? Text("...", true) : bound[3].text();
  const auto tail = static_cast<int64_t>(Length(end.str()));
  if (length < tail) return Error(Cat("expected length >= ", tail, ", got ", length));
  if (leeway < 0) return Error(Cat("expected leeway >= 0, got ", leeway));
  const int64_t size = LengthOf(bound[0]);
  if (size >= 0 && size <= length + leeway) return bound[0];
  if (!bound[0].string()) return Error(Cat("cannot truncate ", TypeName(bound[0])));
  const Text& text = bound[0].text();
  Text kept = text.Slice(0, OffsetOf(text.str(), static_cast<size_t>(length - tail)));
  const size_t space = kept.str().rfind(' ');
  if (!AsFlag(bound[2], false) && space != std::string::npos) kept = kept.Slice(0, space);
  return Concatenate(evaluator.heap(), kept, end);
}

Result Center(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("center", args, {"value", "width"}, 1));
  HYSPARSE_ASSIGN_OR_RETURN(Text text, ToText(evaluator.heap(), bound[0]));
  HYSPARSE_ASSIGN_OR_RETURN(const int64_t width, AsIndex(bound[1], 80));
  return CenterText(evaluator.heap(), std::move(text), width, Text(" ", true));
}

Result Escape(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("escape", args, {"s"}, 1));
  Heap& heap = evaluator.heap();
  HYSPARSE_ASSIGN_OR_RETURN(Text text, ToText(heap, bound[0]));
  const std::pair<const char*, const char*> entities[] = {
      {"&", "&amp;"}, {">", "&gt;"}, {"<", "&lt;"}, {"'", "&#39;"}, {"\"", "&#34;"}};
  for (const auto& [from, to] : entities) {  // an entity stands for client text: never trusted
    HYSPARSE_ASSIGN_OR_RETURN(text, Replace(heap, text, Text(from, true), Text(to, false), -1));
  }
  return evaluator.NewString(std::move(text));
}

Result WordCount(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound, Bind("wordcount", args, {"s"}, 1));
  HYSPARSE_ASSIGN_OR_RETURN(const Text text, ToText(evaluator.heap(), bound[0]));
  Int words = 0;
  bool inside = false;
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = DecodeAt(text.str(), i);
    const bool word = IsWordCharacter(c.value);
    words += word && !inside;
    inside = word;
    i += c.size;
  }
  return Value::OfInt(words);
}

// json.dumps(x, ensure_ascii=, indent=, separators=, sort_keys=), nothing HTML-escaped.
Result ToJson(Evaluator& evaluator, Args& args) {
  HYSPARSE_ASSIGN_OR_RETURN(const auto bound,
                            Bind("tojson", args, {"x", "ensure_ascii", "indent", "separators", "sort_keys"}, 1));
  JsonStyle style;
  style.ensure_ascii = AsFlag(bound[1], false);
  style.sort_keys = AsFlag(bound[4], false);
  style.pretty = !bound[2].missing() && !bound[2].none();
  if (style.pretty) {
    style.item_separator.pop_back();  // no space before a line break
    if (bound[2].string()) {
      style.indent = bound[2].str();
    } else {
      HYSPARSE_ASSIGN_OR_RETURN(const int64_t width, AsIndex(bound[2], 0));
      if (width > 1000) return Error("the indentation is too wide");
      style.indent = std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
    }
  }
  if (!bound[3].missing() && !bound[3].none()) {
    HYSPARSE_ASSIGN_OR_RETURN(const std::vector<Value> parts, Items(evaluator.heap(), bound[3]));
    if (parts.size() != 2 || !parts[0].string() || !parts[1].string()) return Error("separators must be two strings");
    style.item_separator = parts[0].str();
    style.key_separator = parts[1].str();
  }
  Text out;
  HYSPARSE_RETURN_IF_ERROR(AppendJson(evaluator.heap(), bound[0], style, &out));
  return evaluator.NewString(std::move(out));
}

}  // namespace

absl::StatusOr<Value> CenterText(Heap& heap, Text text, int64_t width, const Text& fill) {
  const auto length = static_cast<int64_t>(Length(text.str()));
  if (width <= length) return heap.NewString(std::move(text));
  // As str.center: where the padding is odd the extra one goes left only for an odd width.
  const int64_t missing = width - length;
  const int64_t left = missing / 2 + (missing & width & 1);
  HYSPARSE_ASSIGN_OR_RETURN(const Value before, Repeat(heap, fill, left));
  HYSPARSE_ASSIGN_OR_RETURN(const Value after, Repeat(heap, fill, missing - left));
  HYSPARSE_ASSIGN_OR_RETURN(const Value head, Concatenate(heap, before.text(), text));
  return Concatenate(heap, head.text(), after.text());
}

const Table& TextFilters() {
  static const Table& table = *new Table({{"upper", ChangeCaseFilter<Case::kUpper>},
                                          {"lower", ChangeCaseFilter<Case::kLower>},
                                          {"capitalize", ChangeCaseFilter<Case::kCapitalize>},
                                          {"title", Title},
                                          {"string", ToString},
                                          {"safe", ToString},
                                          {"trim", Trim},
                                          {"replace", ReplaceFilter},
                                          {"format", Format},
                                          {"indent", Indent},
                                          {"join", Join},
                                          {"truncate", Truncate},
                                          {"center", Center},
                                          {"escape", Escape},
                                          {"e", Escape},
                                          {"wordcount", WordCount},
                                          {"tojson", ToJson}});
  return table;
}

}  // namespace hysparse::jinja
