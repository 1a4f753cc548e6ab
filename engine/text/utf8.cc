#include "engine/text/utf8.h"

#include <cstdint>
#include <cstring>

namespace hysparse {
namespace {

enum class Outcome { kValid, kInvalid, kIncomplete };

struct Character {
  Outcome outcome;
  size_t length;  // kInvalid: the bytes that one U+FFFD stands for
};

// The character at the start of `bytes` (not empty), by Table 3-7 of the Unicode standard.
Character Classify(std::string_view bytes) {
  const auto at = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char lead = at(0);
  if (lead < 0x80) return {Outcome::kValid, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Outcome::kInvalid, 1};
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // Only the second byte's range depends on the lead: no overlong forms, no surrogates, nothing beyond U+10FFFF.
  unsigned char low = 0x80, high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  for (size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return {Outcome::kIncomplete, i};
    if (at(i) < low || at(i) > high) return {Outcome::kInvalid, i};
    low = 0x80, high = 0xBF;
  }
  return {Outcome::kValid, length};
}

// Length of the ASCII run at the start, eight bytes at a time.
size_t AsciiPrefix(std::string_view bytes) {
  size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, bytes.data() + i, 8);
    if (word & 0x8080808080808080u) break;
  }
  while (i < bytes.size() && static_cast<unsigned char>(bytes[i]) < 0x80) ++i;
  return i;
}

}  // namespace

bool IsValidUtf8(std::string_view text) {
  for (;;) {
    text.remove_prefix(AsciiPrefix(text));
    if (text.empty()) return true;
    const Character c = Classify(text);
    if (c.outcome != Outcome::kValid) return false;
    text.remove_prefix(c.length);
  }
}

char32_t DecodeUtf8(std::string_view text, size_t& position) {
  const auto at = [&](size_t i) { return static_cast<unsigned char>(text[position + i]); };
  const unsigned char lead = at(0);
  const size_t length = Utf8Length(static_cast<char>(lead));
  char32_t c = length == 1 ? lead : lead & (0x7F >> length);
  for (size_t i = 1; i < length; ++i) c = (c << 6) | (at(i) & 0x3F);
  position += length;
  return c;
}

char32_t DecodeUtf8Before(std::string_view text, size_t& position) {
  do {
    --position;
  } while (position > 0 && (static_cast<unsigned char>(text[position]) & 0xC0) == 0x80);
  size_t start = position;
  return DecodeUtf8(text, start);
}

void AppendUtf8(char32_t c, std::string& out) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | (c >> 6));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | (c >> 12));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | (c >> 18));
    out += static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

void Utf8Stream::Append(std::string_view bytes, std::string& out) {
  std::string joined;
  if (!held_.empty()) {
    joined = held_;
    joined += bytes;
    bytes = joined;
    held_.clear();
  }
  while (!bytes.empty()) {
    const size_t ascii = AsciiPrefix(bytes);
    out += bytes.substr(0, ascii);
    bytes.remove_prefix(ascii);
    if (bytes.empty()) break;
    const Character c = Classify(bytes);
    if (c.outcome == Outcome::kIncomplete) {
      held_ = bytes;
      break;
    }
    out += c.outcome == Outcome::kValid ? bytes.substr(0, c.length) : kReplacementCharacter;
    bytes.remove_prefix(c.length);
  }
}

void Utf8Stream::Finish(std::string& out) {
  if (!held_.empty()) out += kReplacementCharacter;
  held_.clear();
}

}  // namespace hysparse
