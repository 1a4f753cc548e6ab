#include "engine/text/unicode_forms.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <vector>

#include "engine/text/utf8.h"

namespace hysparse {
namespace {

struct Range {
  char32_t first, last;
};

// Characters newer than Unicode 9 that the forms of Unicode 15 touch.
constexpr Range kUntouched[] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},     {0xC3C, 0xC3C},
    {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},
    {0x32FF, 0x32FF},   {0xA7F2, 0xA7F4},   {0xA82C, 0xA82C},   {0xAB69, 0xAB69},   {0x10781, 0x10785},
    {0x10787, 0x107B0}, {0x107B2, 0x107BA}, {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF},
    {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E},
    {0x11839, 0x1183A}, {0x11930, 0x11930}, {0x11938, 0x11938}, {0x1193D, 0x1193E}, {0x11943, 0x11943},
    {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42},
    {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E030, 0x1E06D},
    {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF},
    {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9}};

// Blocks of common scripts in which no character decomposes, composes with what precedes it, or combines. Inside them
// every text is in form C already.
constexpr Range kStable[] = {{0x0, 0x2FF},     {0x400, 0x482},   {0x48A, 0x52F},    {0x2010, 0x2027}, {0x3001, 0x3029},
                             {0x3041, 0x3096}, {0x30A1, 0x30FA}, {0x30FC, 0x30FC},  {0x3400, 0x4DBF}, {0x4E00, 0x9FFF},
                             {0xAC00, 0xD7A3}, {0xFF01, 0xFF5E}, {0x1F300, 0x1F64F}};

template <size_t N>
bool Contains(const Range (&ranges)[N], char32_t c) {
  const auto after = std::upper_bound(std::begin(ranges), std::end(ranges), c,
                                      [](char32_t value, const Range& range) { return value < range.first; });
  return after != std::begin(ranges) && c <= std::prev(after)->last;
}

int CombiningClass(utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; }

// One run of characters that utf8proc knows as the library does.
class Run {
 public:
  explicit Run(UnicodeForm form) : form_(form) {}

  void Add(char32_t c) {
    constexpr int kMost = 32;  // the longest decomposition has 18
    int options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    if (form_ == UnicodeForm::kNfkc || form_ == UnicodeForm::kNfkd) options |= UTF8PROC_COMPAT;
    utf8proc_int32_t parts[kMost];
    int boundary = 0;
    const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts, kMost,
                                               static_cast<utf8proc_option_t>(options), &boundary);
    if (count > 0 && count <= kMost) characters_.insert(characters_.end(), parts, parts + count);
  }

  void Flush(std::string& out) {
    if (characters_.empty()) return;
    Reorder();
    auto size = static_cast<utf8proc_ssize_t>(characters_.size());
    if (form_ == UnicodeForm::kNfc || form_ == UnicodeForm::kNfkc) {
      const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
      size = utf8proc_normalize_utf32(characters_.data(), size, options);
    }
    for (utf8proc_ssize_t i = 0; i < size; ++i) AppendUtf8(static_cast<char32_t>(characters_[i]), out);
    characters_.clear();
  }

 private:
  // Sorts each run of combining marks by class. utf8proc's own way is quadratic.
  void Reorder() {
    const auto before = [](utf8proc_int32_t a, utf8proc_int32_t b) { return CombiningClass(a) < CombiningClass(b); };
    for (auto begin = characters_.begin(); begin != characters_.end();) {
      if (CombiningClass(*begin) == 0) {
        ++begin;
        continue;
      }
      const auto end = std::find_if(begin, characters_.end(), [](auto c) { return CombiningClass(c) == 0; });
      std::stable_sort(begin, end, before);
      begin = end;
    }
  }

  UnicodeForm form_;
  std::vector<utf8proc_int32_t> characters_;
};

char32_t LowerCase(char32_t c) {
  // Pairs that utf8proc's Unicode does not know.
  constexpr struct {
    char32_t first, last, lower;
  } kNewer[] = {{0x1C89, 0x1C89, 0x1C8A},   {0xA7CB, 0xA7CB, 0x264},  {0xA7CC, 0xA7CC, 0xA7CD},
                {0xA7CE, 0xA7CE, 0xA7CF},   {0xA7D2, 0xA7D2, 0xA7D3}, {0xA7D4, 0xA7D4, 0xA7D5},
                {0xA7DA, 0xA7DA, 0xA7DB},   {0xA7DC, 0xA7DC, 0x19B},  {0x10D50, 0x10D65, 0x10D70},
                {0x16EA0, 0x16EB8, 0x16EBB}};
  for (const auto& pair : kNewer) {
    if (c >= pair.first && c <= pair.last) return pair.lower + (c - pair.first);
  }
  return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
}

}  // namespace

std::string ToUnicodeForm(std::string_view text, UnicodeForm form) {
  const bool composes = form == UnicodeForm::kNfc;
  std::string out;
  out.reserve(text.size());
  Run run(form);
  size_t run_begin = 0;    // of the characters not yet in `out`
  size_t previous = 0;     // the last character: a mark may combine with it
  bool run_stable = true;  // the run's form is the run itself
  const auto flush = [&](size_t end) {
    if (run_stable) {
      out += text.substr(run_begin, end - run_begin);
    } else {
      for (size_t i = run_begin; i < end;) run.Add(DecodeUtf8(text, i));
      run.Flush(out);
    }
    run_begin = end;
    run_stable = true;
  };
  for (size_t at = 0, begin; at < text.size(); previous = begin) {
    begin = at;
    const char32_t c = DecodeUtf8(text, at);
    if (c < 0x80 || (composes && Contains(kStable, c))) {
      if (!run_stable) flush(begin);
    } else if (Contains(kUntouched, c)) {
      flush(begin);
      out += text.substr(begin, at - begin);
      run_begin = begin = at;
    } else if (run_stable) {
      flush(std::max(previous, run_begin));
      run_stable = false;
    }
  }
  flush(text.size());
  return out;
}

std::string ToLowerCase(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const char32_t c = DecodeUtf8(text, at);
    AppendUtf8(c == 0x130 ? U'i' : LowerCase(c), out);
    if (c == 0x130) AppendUtf8(0x307, out);  // the one character whose lower case is two
  }
  return out;
}

}  // namespace hysparse
