// Executor: runs a StepPlan on the ranks and returns what was sampled. The seam between the engine's thread and the
// devices: one local worker today; tensor-parallel ranks and remote workers implement the same call.
#pragma once

#include "absl/status/statusor.h"
#include "engine/schedule/step_plan.h"

namespace hysparse {

class Executor {
 public:
  virtual ~Executor() = default;
  // Blocks until the step is done. An error fails the step's sequences, not the process.
  virtual absl::StatusOr<StepResult> Execute(const StepPlan& plan) = 0;
};

}  // namespace hysparse
