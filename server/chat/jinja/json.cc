// json.dumps: the JSON half of print.h.
#include <cmath>

#include "engine/base/result.h"
#include "server/chat/jinja/cat.h"
#include "server/chat/jinja/escapes.h"
#include "server/chat/jinja/operators.h"
#include "server/chat/jinja/print.h"

namespace hysparse::jinja {
namespace {

std::string JsonFloat(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  return PrintFloat(value);
}

void NewLine(const JsonStyle& style, int depth, bool trusted, Text* out) {
  if (!style.pretty) return;
  out->Append("\n", trusted);
  for (int i = 0; i < depth; ++i) out->Append(style.indent, trusted);
}

absl::Status AppendJsonKey(Heap& heap, const Value& key, const JsonStyle& style, bool trusted, Text* out) {
  Text text;
  switch (key.kind()) {
    case Kind::kString:
      text = key.text();
      break;
    case Kind::kNone:
      text = Text("null", key.trusted());
      break;
    case Kind::kBool:
      text = Text(key.boolean() ? "true" : "false", key.trusted());
      break;
    case Kind::kInt:
      text = Text(PrintInt(key.integer()), key.trusted());
      break;
    case Kind::kFloat:
      text = Text(JsonFloat(key.real()), key.trusted());
      break;
    default:
      return Error(Cat("keys must be str, int, float, bool or None, not ", TypeName(key)));
  }
  HYSPARSE_RETURN_IF_ERROR(heap.StepBytes(text.size()));
  AppendJsonString(text, style.ensure_ascii, trusted && text.trusted(), out);
  return absl::OkStatus();
}

absl::Status AppendJsonList(Heap& heap, const List& list, const JsonStyle& style, Text* out, int depth) {
  if (list.items.empty()) {
    out->Append("[]", list.trusted);
    return absl::OkStatus();
  }
  out->Append("[", list.trusted);
  for (size_t i = 0; i < list.items.size(); ++i) {
    if (i > 0) out->Append(style.item_separator, list.trusted);
    NewLine(style, depth + 1, list.trusted, out);
    HYSPARSE_RETURN_IF_ERROR(AppendJson(heap, list.items[i], style, out, depth + 1));
  }
  NewLine(style, depth, list.trusted, out);
  out->Append("]", list.trusted);
  return absl::OkStatus();
}

absl::Status AppendJsonDict(Heap& heap, const Dict& dict, const JsonStyle& style, Text* out, int depth) {
  if (dict.items.empty()) {
    out->Append("{}", dict.trusted);
    return absl::OkStatus();
  }
  std::vector<std::pair<Value, Value>> items = dict.items;
  if (style.sort_keys) HYSPARSE_RETURN_IF_ERROR(SortValues(heap, &items, false));
  out->Append("{", dict.trusted);
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out->Append(style.item_separator, dict.trusted);
    NewLine(style, depth + 1, dict.trusted, out);
    HYSPARSE_RETURN_IF_ERROR(AppendJsonKey(heap, items[i].first, style, dict.trusted, out));
    out->Append(style.key_separator, dict.trusted);
    HYSPARSE_RETURN_IF_ERROR(AppendJson(heap, items[i].second, style, out, depth + 1));
  }
  NewLine(style, depth, dict.trusted, out);
  out->Append("}", dict.trusted);
  return absl::OkStatus();
}

}  // namespace

absl::Status AppendJson(Heap& heap, const Value& value, const JsonStyle& style, Text* out, int depth) {
  HYSPARSE_RETURN_IF_ERROR(heap.Step(1 + static_cast<int64_t>(depth * style.indent.size() / 64)));
  HYSPARSE_RETURN_IF_ERROR(heap.Reserve(2 * out->size() + depth * style.indent.size()));
  if (depth > heap.limits().value_depth) return Error("maximum recursion depth exceeded in a nested value");
  switch (value.kind()) {
    case Kind::kNone:
      out->Append("null", value.trusted());
      return absl::OkStatus();
    case Kind::kBool:
      out->Append(value.boolean() ? "true" : "false", value.trusted());
      return absl::OkStatus();
    case Kind::kInt:
      out->Append(PrintInt(value.integer()), value.trusted());
      return absl::OkStatus();
    case Kind::kFloat:
      out->Append(JsonFloat(value.real()), value.trusted());
      return absl::OkStatus();
    case Kind::kString:
      HYSPARSE_RETURN_IF_ERROR(heap.Step(static_cast<int64_t>(value.text().size() / 16)));
      AppendJsonString(value.text(), style.ensure_ascii, value.text().trusted(), out);
      return absl::OkStatus();
    default:
      break;
  }
  if (const List* list = value.as<List>(); list != nullptr) return AppendJsonList(heap, *list, style, out, depth);
  if (const Dict* dict = value.as<Dict>(); dict != nullptr) return AppendJsonDict(heap, *dict, style, out, depth);
  return Error(Cat("Object of type ", TypeName(value), " is not JSON serializable"));
}

}  // namespace hysparse::jinja
