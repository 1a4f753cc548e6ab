// How values print: Python's str() and repr(), json.dumps, number formats. Text keeps its provenance. One thread.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/chat/jinja/heap.h"
#include "server/chat/jinja/value.h"

namespace hysparse::jinja {

std::string PrintInt(Int value);
std::string PrintFloat(double value);  // repr: the shortest digits that read back

absl::Status AppendStr(Heap& heap, const Value& value, Text* out);
absl::Status AppendRepr(Heap& heap, const Value& value, Text* out, int depth = 0);
absl::StatusOr<Text> ToText(Heap& heap, const Value& value);  // str(value)

struct JsonStyle {
  bool ensure_ascii = false;
  bool pretty = false;
  std::string indent;  // of one level, when pretty
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
};
absl::Status AppendJson(Heap& heap, const Value& value, const JsonStyle& style, Text* out, int depth = 0);

// Offset of `needle` in `text` at or after `from`, in linear time; npos when absent.
size_t FindBytes(std::string_view text, std::string_view needle, size_t from);
size_t FindLastBytes(std::string_view text, std::string_view needle);

}  // namespace hysparse::jinja
