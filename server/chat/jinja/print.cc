#include "server/chat/jinja/print.h"

#include <string.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "engine/base/result.h"
#include "server/chat/jinja/cat.h"
#include "server/chat/jinja/escapes.h"
#include "server/chat/jinja/macro.h"
#include "server/chat/jinja/operators.h"

namespace hysparse::jinja {

std::string PrintInt(Int value) {
  if (value == 0) return "0";
  std::string digits;
  const bool negative = value < 0;
  for (; value != 0; value /= 10) digits += static_cast<char>('0' + (negative ? -(value % 10) : value % 10));
  if (negative) digits += '-';
  std::reverse(digits.begin(), digits.end());
  return digits;
}

std::string PrintFloat(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[400];
  const double magnitude = std::abs(value);
  const bool scientific = magnitude != 0 && (magnitude >= 1e16 || magnitude < 1e-4);
  const auto format = scientific ? std::chars_format::scientific : std::chars_format::fixed;
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value, format).ptr;
  std::string text(buffer, end);
  if (!scientific && text.find('.') == std::string::npos) text += ".0";
  return text;
}

namespace {

absl::Status AppendSequence(Heap& heap, const List& list, Text* out, int depth) {
  const bool tuple = list.type == Type::kTuple;
  out->Append(tuple ? "(" : "[", list.trusted);
  for (size_t i = 0; i < list.items.size(); ++i) {
    if (i > 0) out->Append(", ", list.trusted);
    HYSPARSE_RETURN_IF_ERROR(AppendRepr(heap, list.items[i], out, depth + 1));
  }
  out->Append(!tuple ? "]" : list.items.size() == 1 ? ",)" : ")", list.trusted);
  return absl::OkStatus();
}

absl::Status AppendDict(Heap& heap, const Dict& dict, Text* out, int depth) {
  out->Append("{", dict.trusted);
  for (size_t i = 0; i < dict.items.size(); ++i) {
    if (i > 0) out->Append(", ", dict.trusted);
    HYSPARSE_RETURN_IF_ERROR(AppendRepr(heap, dict.items[i].first, out, depth + 1));
    out->Append(": ", dict.trusted);
    HYSPARSE_RETURN_IF_ERROR(AppendRepr(heap, dict.items[i].second, out, depth + 1));
  }
  out->Append("}", dict.trusted);
  return absl::OkStatus();
}

absl::Status AppendView(Heap& heap, const Value& value, Text* out, int depth) {
  const DictView& view = *value.as<DictView>();
  HYSPARSE_ASSIGN_OR_RETURN(std::vector<Value> items, Items(heap, value));
  HYSPARSE_ASSIGN_OR_RETURN(const Value list, heap.NewList(std::move(items)));
  list.object()->trusted = view.dict->trusted;
  const char* names[] = {"dict_keys(", "dict_values(", "dict_items("};
  out->Append(names[static_cast<int>(view.part)], true);
  HYSPARSE_RETURN_IF_ERROR(AppendRepr(heap, list, out, depth + 1));
  out->Append(")", true);
  return absl::OkStatus();
}

absl::Status AppendObject(Heap& heap, const Value& value, Text* out, int depth) {
  switch (value.object()->type) {
    case Type::kList:
    case Type::kTuple:
      return AppendSequence(heap, *value.as<List>(), out, depth);
    case Type::kDict:
      return AppendDict(heap, *value.as<Dict>(), out, depth);
    case Type::kDictView:
      return AppendView(heap, value, out, depth);
    case Type::kRange: {
      const Range& range = *value.as<Range>();
      out->Append(Cat("range(", range.start, ", ", range.stop), range.trusted);
      out->Append(range.step == 1 ? ")" : Cat(", ", range.step, ")"), range.trusted);
      return absl::OkStatus();
    }
    case Type::kNamespace:
      out->Append("<Namespace ", true);
      HYSPARSE_RETURN_IF_ERROR(AppendRepr(heap, Value::OfObject(value.as<Namespace>()->values), out, depth + 1));
      out->Append(">", true);
      return absl::OkStatus();
    case Type::kMacro:
      out->Append(Cat("<Macro '", value.as<Macro>()->stmt->name, "'>"), true);
      break;
    case Type::kFunction:
      out->Append(Cat("<function ", value.as<Function>()->name, ">"), true);
      break;
    case Type::kLoop:
      out->Append("<LoopContext>", true);
      break;
    case Type::kIterator:
      out->Append("<generator object>", true);
      break;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status AppendRepr(Heap& heap, const Value& value, Text* out, int depth) {
  HYSPARSE_RETURN_IF_ERROR(heap.Step());
  HYSPARSE_RETURN_IF_ERROR(heap.Reserve(2 * out->size()));
  if (depth > heap.limits().value_depth) return Error("maximum recursion depth exceeded in a nested value");
  switch (value.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
      out->Append("Undefined", true);
      break;
    case Kind::kNone:
      out->Append("None", value.trusted());
      break;
    case Kind::kBool:
      out->Append(value.boolean() ? "True" : "False", value.trusted());
      break;
    case Kind::kInt:
      out->Append(PrintInt(value.integer()), value.trusted());
      break;
    case Kind::kFloat:
      out->Append(PrintFloat(value.real()), value.trusted());
      break;
    case Kind::kString:
      HYSPARSE_RETURN_IF_ERROR(heap.Step(static_cast<int64_t>(value.text().size() / 16)));
      AppendRepr(value.text(), value.text().trusted(), out);
      break;
    case Kind::kObject:
      return AppendObject(heap, value, out, depth);
  }
  return absl::OkStatus();
}

absl::Status AppendStr(Heap& heap, const Value& value, Text* out) {
  if (value.undefined()) return absl::OkStatus();
  if (!value.string()) return AppendRepr(heap, value, out);
  HYSPARSE_RETURN_IF_ERROR(heap.StepBytes(value.text().size()));
  HYSPARSE_RETURN_IF_ERROR(heap.Reserve(2 * (out->size() + value.text().size())));
  out->Append(value.text());
  return absl::OkStatus();
}

absl::StatusOr<Text> ToText(Heap& heap, const Value& value) {
  if (value.string()) return value.text();
  Text text;
  HYSPARSE_RETURN_IF_ERROR(AppendStr(heap, value, &text));
  return text;
}

size_t FindBytes(std::string_view text, std::string_view needle, size_t from) {
  if (from > text.size()) return std::string::npos;
  if (needle.empty()) return from;
  const void* hit = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  return hit == nullptr ? std::string::npos : static_cast<size_t>(static_cast<const char*>(hit) - text.data());
}

size_t FindLastBytes(std::string_view text, std::string_view needle) {
  const std::string reversed_text(text.rbegin(), text.rend());
  const std::string reversed_needle(needle.rbegin(), needle.rend());
  const size_t at = FindBytes(reversed_text, reversed_needle, 0);
  return at == std::string::npos ? at : text.size() - at - needle.size();
}

}  // namespace hysparse::jinja
