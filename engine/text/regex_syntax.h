// The regexes of tokenizer.json are written for Oniguruma; this rewrites one for PCRE2 (10.42, UTF and UCP, multi-line)
// so that it matches the same text, and refuses what cannot be rewritten. Differences that are bridged:
//   \s       PCRE2 has U+180E in it            \w \b   PCRE2 leaves out marks and connectors
//   \h \H    hexadecimal digits, not blanks     \v      the character U+000B, not a class
//   {,n}     {0,n}                              x{n,m}+ repeats the group instead of being possessive
//   (?m)     the dot matches newlines           \p{Han} the script, without its extensions
//   \p{L}    and other categories: characters newer than PCRE2's Unicode (unicode_properties.h)
//   [\S\P{L}] negated sets inside a class
// One difference stays: (?i) compares character by character, so ss does not match ß. Pure functions; any thread.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace hysparse {

absl::StatusOr<std::string> TranslateOniguruma(std::string_view pattern);

}  // namespace hysparse
