// Monotonic seconds, for durations; any thread.
#pragma once

#include <chrono>

namespace hysparse {

using Clock = std::chrono::steady_clock;

inline double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace hysparse
