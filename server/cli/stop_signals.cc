#include "server/cli/stop_signals.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

namespace hysparse {
namespace {

sigset_t Handled() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

}  // namespace

StopSignals::StopSignals() {
  const sigset_t set = Handled();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  thread_ = std::thread([this] { Watch(); });
}

StopSignals::~StopSignals() {
  closing_ = true;
  // The signal is blocked: it wakes sigwait and ends nothing.
  pthread_kill(thread_.native_handle(), SIGTERM);  // NOLINT(bugprone-bad-signal-to-kill-thread)
  thread_.join();
}

void StopSignals::Watch() {
  const sigset_t set = Handled();
  bool stopping = false;
  while (true) {
    int signal = 0;
    if (sigwait(&set, &signal) != 0) continue;
    if (closing_) return;
    if (stopping || !armed_) _exit(128 + signal);
    stopping = true;
    stop_.release();
  }
}

}  // namespace hysparse
