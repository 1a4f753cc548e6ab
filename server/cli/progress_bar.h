// A progress bar on stderr, drawn only on a terminal. One thread.
#pragma once

#include <string>

namespace hysparse {

class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  ~ProgressBar();  // wipes it

  void Show(double fraction);

 private:
  const std::string label_;
  const bool terminal_;
  int shown_ = -1;  // per cent
};

}  // namespace hysparse
