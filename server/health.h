// Health: what the probes answer. Live: the process serves and its engine moves. Ready: a model is loaded, the engine
// is live and no drain has begun. Started: the model is loaded. Any thread; nothing here blocks.
#pragma once

#include <atomic>
#include <chrono>
#include <string>

#include "server/drain_gate.h"
#include "server/served_model.h"

namespace hysparse {

class Health {
 public:
  // An engine that is busy and has not finished a step (or a prefill chunk) for `stall` is taken for hung.
  Health(const ModelSlot& slot, const DrainGate& gate, std::chrono::milliseconds stall)
      : slot_(slot), gate_(gate), stall_(stall) {}

  struct Report {
    bool ok = false;
    std::string status;     // ready, live, loading, draining, stalled, failed
    double progress = 0.0;  // of loading, 0 … 1
  };

  void SetProgress(double fraction) { progress_ = fraction; }
  void SetFailed() { failed_ = true; }

  Report Live() const;
  Report Ready() const;
  Report Started() const;

 private:
  bool Stalled() const;

  const ModelSlot& slot_;
  const DrainGate& gate_;
  const std::chrono::milliseconds stall_;
  std::atomic<double> progress_{0};
  std::atomic<bool> failed_{false};
};

}  // namespace hysparse
