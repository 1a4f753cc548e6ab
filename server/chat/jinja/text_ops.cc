#include "server/chat/jinja/text_ops.h"

#include <algorithm>

#include "engine/base/result.h"
#include "server/chat/jinja/print.h"
#include "server/chat/jinja/unicode.h"

namespace hysparse::jinja {
namespace {

bool Strips(const std::string* chars, std::string_view character, char32_t value) {
  return chars == nullptr ? IsSpace(value) : FindBytes(*chars, character, 0) != std::string::npos;
}

size_t CharacterBefore(std::string_view s, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && (s[begin] & 0xc0) == 0x80) --begin;
  return begin;
}

}  // namespace

Text Strip(const Text& text, const std::string* chars, Side side) {
  const std::string_view s = text.str();
  size_t begin = 0, end = s.size();
  while (side != Side::kRight && begin < end) {
    const CodePoint c = DecodeAt(s, begin);
    if (!Strips(chars, s.substr(begin, c.size), c.value)) break;
    begin += c.size;
  }
  while (side != Side::kLeft && end > begin) {
    const size_t last = CharacterBefore(s, end);
    if (!Strips(chars, s.substr(last, end - last), DecodeAt(s, last).value)) break;
    end = last;
  }
  return text.Slice(begin, end);
}

absl::StatusOr<Text> Replace(Heap& heap, const Text& text, const Text& from, const Text& to, int64_t count) {
  const std::string_view s = text.str();
  Text out;
  size_t at = 0;  // bytes before it are in `out`
  HYSPARSE_RETURN_IF_ERROR(heap.StepBytes(s.size()));
  for (size_t search = 0; count != 0; --count) {
    size_t hit = FindBytes(s, from.str(), search);
    if (hit == std::string::npos) break;
    HYSPARSE_RETURN_IF_ERROR(heap.StepBytes(to.size()));
    HYSPARSE_RETURN_IF_ERROR(heap.Reserve(2 * (out.bytes() + to.bytes())));
    out.Append(text, at, hit);
    out.Append(to);
    at = hit + from.size();
    search = at;
    if (from.empty()) {  // between all characters, once
      if (hit >= s.size()) break;
      search = hit + DecodeAt(s, hit).size;
    }
  }
  out.Append(text, at, s.size());
  return out;
}

std::vector<Text> SplitLines(const Text& text, bool keep_ends) {
  const std::string_view s = text.str();
  std::vector<Text> lines;
  size_t begin = 0;
  for (size_t i = 0; i < s.size();) {
    const CodePoint c = DecodeAt(s, i);
    const size_t line_end = i;
    i += c.size;
    if (!IsLineBreak(c.value)) continue;
    if (c.value == '\r' && i < s.size() && s[i] == '\n') ++i;
    lines.push_back(text.Slice(begin, keep_ends ? i : line_end));
    begin = i;
  }
  if (begin < s.size()) lines.push_back(text.Slice(begin, s.size()));
  return lines;
}

namespace {

std::vector<Text> SplitSpaces(const Text& text, int64_t limit) {
  const std::string_view s = text.str();
  std::vector<Text> parts;
  size_t at = LeftStripped(s);
  while (at < s.size()) {
    if (limit == 0) {
      parts.push_back(text.Slice(at, s.size()));
      break;
    }
    --limit;
    size_t end = at;
    while (end < s.size() && !IsSpace(DecodeAt(s, end).value)) end += DecodeAt(s, end).size;
    parts.push_back(text.Slice(at, end));
    at = end + LeftStripped(s.substr(end));
  }
  return parts;
}

std::vector<Text> SplitSpacesFromRight(const Text& text, int64_t limit) {
  const std::string_view s = text.str();
  std::vector<Text> parts;
  size_t end = RightStripped(s);
  while (end > 0) {
    if (limit == 0) {
      parts.push_back(text.Slice(0, end));
      break;
    }
    --limit;
    size_t begin = end;
    while (begin > 0 && !IsSpace(DecodeAt(s, CharacterBefore(s, begin)).value)) begin = CharacterBefore(s, begin);
    parts.push_back(text.Slice(begin, end));
    end = RightStripped(s.substr(0, begin));
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

}  // namespace

std::vector<Text> Split(const Text& text, std::string_view separator, int64_t limit, bool from_right) {
  if (separator.empty()) return from_right ? SplitSpacesFromRight(text, limit) : SplitSpaces(text, limit);
  const std::string_view s = text.str();
  std::vector<size_t> hits;
  if (from_right) {  // matches are found from the end, so that overlapping ones fall as in Python
    const std::string reversed(s.rbegin(), s.rend());
    const std::string needle(separator.rbegin(), separator.rend());
    for (size_t at = 0; limit != 0 && (at = FindBytes(reversed, needle, at)) != std::string::npos; --limit) {
      at += needle.size();
      hits.push_back(s.size() - at);
    }
    std::reverse(hits.begin(), hits.end());
  } else {
    for (size_t at = 0; limit != 0 && (at = FindBytes(s, separator, at)) != std::string::npos; --limit) {
      hits.push_back(at);
      at += separator.size();
    }
  }
  std::vector<Text> parts;
  size_t begin = 0;
  for (const size_t hit : hits) {
    parts.push_back(text.Slice(begin, hit));
    begin = hit + separator.size();
  }
  parts.push_back(text.Slice(begin, s.size()));
  return parts;
}

}  // namespace hysparse::jinja
