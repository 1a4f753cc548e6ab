#include "server/chat/jinja/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/ascii.h"
#include "server/chat/jinja/special_case.h"

namespace hysparse::jinja {
namespace {

using Ranges = std::pair<char32_t, char32_t>;

template <size_t N>
bool In(const std::array<Ranges, N>& ranges, char32_t c) {
  return std::any_of(ranges.begin(), ranges.end(), [c](const Ranges& r) { return c >= r.first && c <= r.second; });
}

// Unicode's Other_Lowercase and Other_Uppercase: cased characters that are no letters of the case.
constexpr auto kOtherLower =
    std::to_array<Ranges>({{0xaa, 0xaa},     {0xba, 0xba},     {0x2b0, 0x2b8},   {0x2c0, 0x2c1},   {0x2e0, 0x2e4},
                           {0x345, 0x345},   {0x37a, 0x37a},   {0x1d2c, 0x1d6a}, {0x1d78, 0x1d78}, {0x1d9b, 0x1dbf},
                           {0x2071, 0x2071}, {0x207f, 0x207f}, {0x2090, 0x209c}, {0x2170, 0x217f}, {0x24d0, 0x24e9},
                           {0x2c7c, 0x2c7d}, {0xa69c, 0xa69d}, {0xa770, 0xa770}, {0xa7f8, 0xa7f9}, {0xab5c, 0xab5f}});
constexpr auto kOtherUpper = std::to_array<Ranges>(
    {{0x2160, 0x216f}, {0x24b6, 0x24cf}, {0x1f130, 0x1f149}, {0x1f150, 0x1f169}, {0x1f170, 0x1f189}});
// Punctuation that Unicode lets stand inside a word (Case_Ignorable beyond the mark and modifier categories).
constexpr auto kMidWord = std::to_array<char32_t>({'\'', '.', ':', 0xb7, 0x387, 0x55f, 0x5f4, 0x2018, 0x2019, 0x2024,
                                                   0x2027, 0xfe13, 0xfe52, 0xfe55, 0xff07, 0xff0e, 0xff1a});

utf8proc_category_t Category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

bool CaseIgnorable(char32_t c) {
  if (c < 0x80) return c == '\'' || c == '.' || c == ':' || c == '^' || c == '`';
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      return std::find(kMidWord.begin(), kMidWord.end(), c) != kMidWord.end();
  }
}

// Whether the first character beyond case-ignorable ones, walking from `at` forwards, is cased.
bool CasedAhead(std::string_view s, size_t at) {
  while (at < s.size()) {
    const CodePoint c = DecodeAt(s, at);
    if (!CaseIgnorable(c.value)) return IsCased(c.value);
    at += c.size;
  }
  return false;
}

void AppendMapped(char32_t c, Case wanted, std::string* out) {
  if (c < 0x80) {
    const char ascii = static_cast<char>(c);
    *out += wanted == Case::kLower ? absl::ascii_tolower(ascii) : absl::ascii_toupper(ascii);
    return;
  }
  const auto simple = static_cast<utf8proc_int32_t>(c);
  if (wanted == Case::kLower) {
    if (c == 0x130) {
      out->append("i\xcc\x87");
    } else {
      AppendUtf8(utf8proc_tolower(simple), out);
    }
    return;
  }
  const bool title = wanted == Case::kTitle;
  if (const SpecialCase* special = FindSpecialCase(c); special != nullptr) {
    for (const char32_t mapped : title ? special->title : special->upper) AppendUtf8(mapped, out);
    return;
  }
  AppendUtf8(title ? utf8proc_totitle(simple) : utf8proc_toupper(simple), out);
}

Case CaseOf(Case wanted, char32_t c, bool first, bool after_cased) {
  switch (wanted) {
    case Case::kCapitalize:
      return first ? Case::kTitle : Case::kLower;
    case Case::kTitle:
      return after_cased ? Case::kLower : Case::kTitle;
    case Case::kSwap:
      return IsUpper(c) ? Case::kLower : Case::kUpper;
    default:
      return wanted;
  }
}

}  // namespace

CodePoint DecodeAt(std::string_view text, size_t offset) {
  const auto byte = static_cast<unsigned char>(text[offset]);
  if (byte < 0x80) return {byte, 1};
  utf8proc_int32_t c = 0;
  const utf8proc_ssize_t size = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + offset,
                                                 static_cast<utf8proc_ssize_t>(text.size() - offset), &c);
  if (size <= 0) return {0xfffd, 1};
  return {static_cast<char32_t>(c), static_cast<size_t>(size)};
}

bool ValidUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = DecodeAt(text, i);
    if (c.value == 0xfffd && c.size == 1) return false;
    i += c.size;
  }
  return true;
}

void AppendUtf8(char32_t c, std::string* out) {
  utf8proc_uint8_t bytes[4];
  const utf8proc_ssize_t size = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), bytes);
  out->append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
}

size_t Length(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; });
}

size_t OffsetOf(std::string_view text, size_t index) {
  size_t offset = 0;
  for (; index > 0 && offset < text.size(); --index) {
    do {
      ++offset;
    } while (offset < text.size() && (text[offset] & 0xc0) == 0x80);
  }
  return offset;
}

bool IsSpace(char32_t c) {
  return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool IsLineBreak(char32_t c) {
  return (c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool IsPrintable(char32_t c) {
  if (c == ' ') return true;
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

bool IsAlpha(char32_t c) {
  const auto category = Category(c);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}
bool IsDecimal(char32_t c) { return Category(c) == UTF8PROC_CATEGORY_ND; }
bool IsNumeric(char32_t c) {
  const auto category = Category(c);
  return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}
bool IsWordCharacter(char32_t c) { return c == '_' || IsAlpha(c) || IsNumeric(c); }
bool IsUpper(char32_t c) {
  if (c < 0x80) return c >= 'A' && c <= 'Z';
  return Category(c) == UTF8PROC_CATEGORY_LU || In(kOtherUpper, c);
}
bool IsLower(char32_t c) {
  if (c < 0x80) return c >= 'a' && c <= 'z';
  return Category(c) == UTF8PROC_CATEGORY_LL || In(kOtherLower, c);
}
bool IsCased(char32_t c) { return IsUpper(c) || IsLower(c) || (c >= 0x80 && Category(c) == UTF8PROC_CATEGORY_LT); }

size_t RightStripped(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    size_t begin = end - 1;
    while (begin > 0 && (text[begin] & 0xc0) == 0x80) --begin;
    if (!IsSpace(DecodeAt(text, begin).value)) break;
    end = begin;
  }
  return end;
}

size_t LeftStripped(std::string_view text) {
  size_t begin = 0;
  while (begin < text.size()) {
    const CodePoint c = DecodeAt(text, begin);
    if (!IsSpace(c.value)) break;
    begin += c.size;
  }
  return begin;
}

Text ChangeCase(const Text& text, Case wanted) {
  const std::string& s = text.str();
  Text out;
  bool word_so_far_cased = false;  // the last character that is not case-ignorable is cased (for final sigma)
  bool after_cased = false;
  for (size_t i = 0; i < s.size();) {
    const CodePoint c = DecodeAt(s, i);
    const Case mapping = CaseOf(wanted, c.value, i == 0, after_cased);
    std::string mapped;
    if (c.value == 0x3a3 && mapping == Case::kLower) {
      AppendUtf8(word_so_far_cased && !CasedAhead(s, i + c.size) ? 0x3c2 : 0x3c3, &mapped);
    } else {
      AppendMapped(c.value, mapping, &mapped);
    }
    out.Append(mapped, text.TrustedAt(i));
    after_cased = IsCased(c.value);
    if (!CaseIgnorable(c.value)) word_so_far_cased = after_cased;
    i += c.size;
  }
  return out;
}

}  // namespace hysparse::jinja
