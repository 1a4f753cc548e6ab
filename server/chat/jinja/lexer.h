// Template source → tokens, with trim_blocks and lstrip_blocks set and one trailing newline dropped, as Hugging Face's
// chat templates are run. Pure function; any thread. Errors are InvalidArgument and begin with "line N: ".
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace hysparse::jinja {

enum class TokenKind {
  kData,           // text between tags, whitespace control applied
  kVariableBegin,  // {{
  kVariableEnd,
  kBlockBegin,  // {%
  kBlockEnd,
  kName,
  kString,  // unescaped
  kInteger,
  kFloat,
  kOperator,  // text is the operator
  kEnd,
};

struct Token {
  TokenKind kind;
  std::string text;
  int line;
};

absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source);

// "line N: what", the form of every syntax error.
absl::Status SyntaxError(int line, std::string_view what);

}  // namespace hysparse::jinja
