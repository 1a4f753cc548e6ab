#include "server/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace hysparse {

StopStrings::StopStrings(std::vector<std::string> stops) {
  for (std::string& text : stops) {
    if (text.empty()) continue;
    std::vector<uint32_t> failure(text.size() + 1, 0);
    for (uint32_t i = 1, k = 0; i < text.size(); ++i) {
      while (k > 0 && text[i] != text[k]) k = failure[k];
      if (text[i] == text[k]) ++k;
      failure[i + 1] = k;
    }
    stops_.push_back({std::move(text), std::move(failure)});
  }
}

StopMatcher::StopMatcher(std::shared_ptr<const StopStrings> stops)
    : stops_(std::move(stops)), matched_(stops_->stops_.size(), 0) {}

std::string StopMatcher::Append(std::string_view piece) {
  if (stopped_) return {};
  held_ += piece;
  if (matched_.empty()) return std::exchange(held_, {});
  for (size_t i = held_.size() - piece.size(); i < held_.size(); ++i) {
    size_t longest = 0;
    for (size_t s = 0; s < matched_.size(); ++s) {
      const StopStrings::Stop& stop = stops_->stops_[s];
      uint32_t& k = matched_[s];
      while (k > 0 && held_[i] != stop.text[k]) k = stop.failure[k];
      if (held_[i] == stop.text[k]) ++k;
      if (k == stop.text.size()) {
        longest = std::max(longest, stop.text.size());
        k = stop.failure[k];
      }
    }
    if (longest == 0) continue;
    stopped_ = true;
    held_.resize(i + 1 - longest);
    return std::exchange(held_, {});
  }
  const size_t keep = *std::max_element(matched_.begin(), matched_.end());
  std::string certain = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return certain;
}

std::string StopMatcher::Finish() { return std::exchange(held_, {}); }

}  // namespace hysparse
