// String formatting: `'%s' % x`, the format filter, and str.format. Text keeps its provenance. One thread.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/chat/jinja/heap.h"
#include "server/chat/jinja/value.h"

namespace hysparse::jinja {

// Python's `format % args`; args is a tuple, a dict, or one value.
absl::StatusOr<Text> FormatPercent(Heap& heap, const Text& format, const Value& args);

// What both families of conversions share.
struct FormatSpec {
  std::string fill = " ";
  char align = '\0';  // < > ^ =
  char sign = '\0';   // + - space
  bool alternate = false;
  bool comma = false;
  int64_t width = 0;
  int64_t precision = -1;
  char type = '\0';
};

// Digits of a number under a spec, sign and padding included; InvalidArgument for a type it does not take.
absl::StatusOr<std::string> FormatNumber(const Value& number, const FormatSpec& spec);
// Pads to the width in code points; padding is trusted.
Text Pad(Text text, const FormatSpec& spec, char default_align);

}  // namespace hysparse::jinja
