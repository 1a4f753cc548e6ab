// The byte-level alphabet of GPT-2: each of the 256 bytes has a printable character that stands for it in the
// vocabulary. Printable Latin-1 stands for itself, the other 68 bytes for U+0100 onwards. Any thread.
#pragma once

#include <string>
#include <string_view>

namespace hysparse {

// UTF-8 of the character that stands for `byte` (one or two bytes).
std::string_view ByteCharacter(unsigned char byte);

// The byte that `character` stands for, or -1.
int CharacterByte(char32_t character);

// `text` byte by byte in the alphabet.
std::string ToByteAlphabet(std::string_view text);

// The bytes that a token spelt in the alphabet stands for; false (and `bytes` unchanged) when a character is outside
// it.
bool FromByteAlphabet(std::string_view token, std::string& bytes);

}  // namespace hysparse
