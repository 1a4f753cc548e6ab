// Unicode properties by name as Oniguruma 6.9.10 (Unicode 16) sees them, for PCRE2 10.42 (Unicode 14) and utf8proc 2.8
// (Unicode 15): what the newer versions added is listed here. Two categories keep PCRE2's view: U+1171E moved from Mn
// to Mc, and is in both. Pure functions; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace hysparse {

// The members of a general category ("L", "Lu") or script ("Han") as the inside of a PCRE2 character class; nothing
// when the property is unknown or cannot be expressed so.
std::optional<std::string> PropertyMembers(std::string_view name);

// The members of Oniguruma's \w: letters, marks, digits, connectors, and the Latin-1 superscripts and fractions.
std::string WordMembers();

// The general category of a character that Unicode 15 or 16 assigned; empty for all others.
std::string_view NewerCategory(char32_t c);

}  // namespace hysparse
