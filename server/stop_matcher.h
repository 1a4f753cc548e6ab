// StopMatcher: stop strings over a growing text. Text that may still become a stop string is held back; the rest is
// passed on. The result does not depend on how the text was cut into pieces. One per choice, one thread at a time.
//
//   StopMatcher matcher(stops);
//   text += matcher.Append(piece);          // until matcher.stopped()
//   text += matcher.Finish();               // what was held back, when the end comes first
//
// The first stop string to be complete wins; of several that are complete at the same byte, the longest. Pieces and
// stop strings are valid UTF-8, so what is passed on is too.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace hysparse {

// The stop strings of one request with their failure tables (Knuth-Morris-Pratt); shared by its choices.
class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> stops);

 private:
  friend class StopMatcher;
  struct Stop {
    std::string text;
    std::vector<uint32_t> failure;  // longest proper prefix that is also a suffix, by length
  };
  std::vector<Stop> stops_;
};

class StopMatcher {
 public:
  explicit StopMatcher(std::shared_ptr<const StopStrings> stops);

  // The text that is now certain to be wanted. After a match: what stood before the stop string, then nothing.
  std::string Append(std::string_view piece);
  std::string Finish();
  bool stopped() const { return stopped_; }

 private:
  std::shared_ptr<const StopStrings> stops_;
  std::vector<uint32_t> matched_;  // per stop: bytes of it that the text's end matches
  std::string held_;
  bool stopped_ = false;
};

}  // namespace hysparse
