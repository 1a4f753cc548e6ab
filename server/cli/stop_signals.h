// SIGTERM and SIGINT as an event that main waits for; a second one ends the process at once. Made before any other
// thread, so that all inherit the blocked mask.
//
//   StopSignals signals;        // until Armed: a signal ends the process at once, there is nothing to drain
//   signals.Arm();
//   signals.Wait();             // the first signal
//   …drain; a second signal ends the process…
#pragma once

#include <atomic>
#include <semaphore>
#include <thread>

namespace hysparse {

class StopSignals {
 public:
  StopSignals();
  ~StopSignals();

  void Arm() { armed_ = true; }
  void Wait() { stop_.acquire(); }

 private:
  void Watch();

  std::atomic<bool> armed_{false}, closing_{false};
  std::binary_semaphore stop_{0};
  std::thread thread_;
};

}  // namespace hysparse
