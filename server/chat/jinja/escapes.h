// String literals: Python's backslash escapes in, Python's repr out. Pure functions; any thread.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/chat/jinja/text.h"

namespace hysparse::jinja {

// A literal's body without its quotes. InvalidArgument for a broken escape.
absl::StatusOr<std::string> Unescape(std::string_view body);

// Appends repr(text) as Python prints it: quotes chosen, control and unprintable characters escaped. Characters keep
// their trust; the quotes take that of `quotes_trusted`.
void AppendRepr(const Text& text, bool quotes_trusted, Text* out);

// Appends json.dumps(text), quotes included.
void AppendJsonString(const Text& text, bool ensure_ascii, bool quotes_trusted, Text* out);

}  // namespace hysparse::jinja
