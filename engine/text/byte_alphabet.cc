#include "engine/text/byte_alphabet.h"

#include <array>
#include <cstddef>
#include <cstdint>

#include "engine/text/utf8.h"

namespace hysparse {
namespace {

constexpr int kAlphabetEnd = 0x144;  // one past the highest character

struct Alphabet {
  std::array<std::string, 256> characters;
  std::array<int16_t, kAlphabetEnd> bytes;

  Alphabet() {
    bytes.fill(-1);
    char32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
      const char32_t c = printable ? static_cast<char32_t>(byte) : next++;
      AppendUtf8(c, characters[byte]);
      bytes[c] = static_cast<int16_t>(byte);
    }
  }
};

const Alphabet& TheAlphabet() {
  static const Alphabet alphabet;
  return alphabet;
}

}  // namespace

std::string_view ByteCharacter(unsigned char byte) { return TheAlphabet().characters[byte]; }

int CharacterByte(char32_t character) { return character < kAlphabetEnd ? TheAlphabet().bytes[character] : -1; }

std::string ToByteAlphabet(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 4);
  for (const char c : text) out += ByteCharacter(static_cast<unsigned char>(c));
  return out;
}

bool FromByteAlphabet(std::string_view token, std::string& bytes) {
  const size_t before = bytes.size();
  for (size_t i = 0; i < token.size();) {
    const int byte = CharacterByte(DecodeUtf8(token, i));
    if (byte < 0) {
      bytes.resize(before);
      return false;
    }
    bytes += static_cast<char>(byte);
  }
  return true;
}

}  // namespace hysparse
