// Executor: runs StepPlans on the ranks, in order, and returns what was sampled. The seam between the engine's thread
// and the devices: one local rank today; tensor-parallel ranks and remote workers implement the same calls.
//
// The engine launches step k + 1 while step k runs, so at most two are under way. Engine thread only.
#pragma once

#include "absl/status/statusor.h"
#include "engine/schedule/step_plan.h"

namespace hysparse {

class Executor {
 public:
  virtual ~Executor() = default;
  // Hands a step over and returns at once. At most kMaxSteps are launched and not waited for.
  virtual void Launch(StepPlan plan) = 0;
  // Blocks until the oldest step launched and not yet waited for is done. An error fails that step's sequences, not the
  // process; what the step after it takes from a failed one is undefined, and the engine drops it.
  virtual absl::StatusOr<StepResult> Wait() = 0;

  static constexpr int kMaxSteps = 2;
};

// One rank's steps, one after the other: what a RankThread runs. Blocks until the step is done.
class StepRunner {
 public:
  virtual ~StepRunner() = default;
  // Resolves the plan's kSampledToken entries with the samples of the last call, in place.
  virtual absl::StatusOr<StepResult> Run(StepPlan& plan) = 0;
};

}  // namespace hysparse
