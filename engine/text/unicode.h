// Character classes as the `tokenizers` library's own code (not its regexes) sees them. utf8proc 2.8 knows Unicode 15;
// the few characters that the library classifies otherwise are listed in unicode.cc. Any thread.
#pragma once

namespace hysparse {

bool IsWhitespace(char32_t c);   // White_Space
bool IsNumeric(char32_t c);      // Nd, Nl, No
bool IsPunctuation(char32_t c);  // P*, and ASCII's symbols
bool IsWord(char32_t c);         // \w of Unicode regexes: Alphabetic, M, Nd, Pc, Join_Control

}  // namespace hysparse
