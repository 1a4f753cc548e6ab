#include "server/chat/jinja/text.h"

#include <algorithm>

namespace hysparse::jinja {

void Text::Append(std::string_view text, bool trusted) {
  if (text.empty()) return;
  text_.append(text);
  if (!runs_.empty() && runs_.back().trusted == trusted) {
    runs_.back().end = text_.size();
  } else {
    runs_.push_back({text_.size(), trusted});
  }
}

size_t Text::RunOf(size_t offset) const {
  return std::upper_bound(runs_.begin(), runs_.end(), offset,
                          [](size_t value, const Run& run) { return value < run.end; }) -
         runs_.begin();
}

void Text::Append(const Text& other, size_t begin, size_t end) {
  const std::string_view source = other.text_;
  for (size_t run = other.RunOf(begin); begin < end; ++run) {
    const size_t stop = std::min(end, other.runs_[run].end);
    const bool trusted = other.runs_[run].trusted;
    if (this == &other) {
      Append(std::string(source.substr(begin, stop - begin)), trusted);
    } else {
      Append(source.substr(begin, stop - begin), trusted);
    }
    begin = stop;
  }
}

Text Text::Slice(size_t begin, size_t end) const {
  Text result;
  result.Append(*this, begin, end);
  return result;
}

bool Text::TrustedAt(size_t offset) const {
  return runs_.empty() || runs_[std::min(RunOf(offset), runs_.size() - 1)].trusted;
}

}  // namespace hysparse::jinja
