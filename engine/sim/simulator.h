// Simulator: the engine's scheduler, block manager and admission, with steps that a WorkModel times in place of a
// forward pass. Virtual time, no threads; the same inputs give the same outcome on every machine.
//
// The loop is the engine's (engine_step.cc): a step is planned while the one before it runs, and starts when that is
// done; arrivals are seen when a step ends. The host's own time is not counted.
#pragma once

#include <cstdint>

#include "engine/kv/block_manager.h"
#include "engine/schedule/scheduler.h"
#include "engine/sim/arrivals.h"
#include "engine/sim/report.h"
#include "engine/sim/work_model.h"
#include "engine/sim/workload.h"

namespace hysparse {

struct SimulatorOptions {
  BlockManagerOptions blocks;
  SchedulerOptions schedule;
  int32_t max_waiting = 1024;  // as EngineOptions
  int64_t max_waiting_tokens = int64_t{16} << 20;
  bool prefix_caching = true;
  int32_t vocab = 0;
  DeviceModel device;
  uint64_t seed = 0;
  bool check_invariants = false;  // after every step, and aborts if one does not hold
};

// What of the arena is in use, promised or could be had now as pages of one class alone, however its slabs must be
// emptied: of the class that could have less. The rest is stranded. O(log pages).
double UsableShare(const BlockManager& blocks);

// Until the workload's duration is over, whatever is still under way.
SimulationReport Simulate(const SimulatorOptions& options, const WorkModel& work, const Workload& workload,
                          const Load& load);

// Sessions a second that are served while somebody always waits, in the workload's mix.
double MeasureCapacity(const SimulatorOptions& options, const WorkModel& work, const Workload& workload);

}  // namespace hysparse
