// Character classes as the code of the `tokenizers` library 0.23 sees them, outside its regexes: it was built with
// several versions of Unicode. utf8proc 2.8 knows Unicode 15; unicode.cc lists the characters that differ. Any thread.
#pragma once

namespace hysparse {

bool IsWhitespace(char32_t c);   // White_Space
bool IsNumeric(char32_t c);      // Nd, Nl, No
bool IsPunctuation(char32_t c);  // P*, and ASCII's symbols
bool IsWord(char32_t c);         // \w of Unicode regexes: Alphabetic, M, Nd, Pc, Join_Control

}  // namespace hysparse
