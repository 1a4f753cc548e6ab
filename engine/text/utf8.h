// UTF-8 without tables of characters: validity, decoding, and a lossy stream that follows the Unicode practice of one
// U+FFFD per maximal ill-formed part (what Rust's from_utf8_lossy and WHATWG do). Pure functions; any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace hysparse {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

bool IsValidUtf8(std::string_view text);

// The code point at `position`, which moves behind it. `text` must be valid UTF-8 and position < size.
char32_t DecodeUtf8(std::string_view text, size_t& position);
// The code point that ends just before `position` > 0, which moves to its first byte.
char32_t DecodeUtf8Before(std::string_view text, size_t& position);

void AppendUtf8(char32_t code_point, std::string& out);

// Bytes of the character that starts with `lead`, from valid UTF-8.
inline size_t Utf8Length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

// A byte stream turned into valid UTF-8 as soon as each character is decided; holds back at most 3 bytes.
class Utf8Stream {
 public:
  void Append(std::string_view bytes, std::string& out);
  void Finish(std::string& out);  // an incomplete tail becomes one U+FFFD

 private:
  std::string held_;
};

}  // namespace hysparse
