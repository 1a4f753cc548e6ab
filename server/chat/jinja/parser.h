// Tokens → tree, with Jinja's grammar and precedence (`-2 ** 2`, `a is b`, filters bind tighter than operators).
// Statements that would read other files (extends, include, import) are refused. Pure function; any thread. Errors are
// InvalidArgument and begin with "line N: ".
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "server/chat/jinja/ast.h"

namespace hysparse::jinja {

absl::StatusOr<Tree> Parse(std::string_view source);

}  // namespace hysparse::jinja
