// Unicode as Python's str sees it: code points, whitespace, printability and full case mappings. Pure functions over
// utf8proc's tables; any thread. Input is valid UTF-8 (a stray byte counts as one character).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "server/chat/jinja/text.h"

namespace hysparse::jinja {

struct CodePoint {
  char32_t value;
  size_t size;  // bytes, at least 1
};

CodePoint DecodeAt(std::string_view text, size_t offset);
bool ValidUtf8(std::string_view text);
void AppendUtf8(char32_t c, std::string* out);
size_t Length(std::string_view text);  // code points
// Byte offset of code point number `index`; the text's size when it has fewer.
size_t OffsetOf(std::string_view text, size_t index);

bool IsSpace(char32_t c);          // str.isspace and what strip() strips
bool IsLineBreak(char32_t c);      // what splitlines() splits at
bool IsPrintable(char32_t c);      // what repr() leaves alone
bool IsWordCharacter(char32_t c);  // \w: letters, digits, underscore, marks
bool IsAlpha(char32_t c);
bool IsDecimal(char32_t c);
bool IsNumeric(char32_t c);
bool IsUpper(char32_t c);
bool IsLower(char32_t c);
bool IsCased(char32_t c);

size_t RightStripped(std::string_view text);  // size without trailing whitespace
size_t LeftStripped(std::string_view text);   // size of the leading whitespace

// str.upper, str.lower, str.capitalize, str.title, str.swapcase; each character keeps its trust.
enum class Case { kUpper, kLower, kCapitalize, kTitle, kSwap };
Text ChangeCase(const Text& text, Case wanted);

}  // namespace hysparse::jinja
