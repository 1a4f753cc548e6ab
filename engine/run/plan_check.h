// PlanCheck: whether a StepPlan may run on a rank, so that no kernel has to ask. Knows how many pages each slot's block
// table holds. Owned by a BatchInputs; used on its rank's thread. Costs O(chunks + tokens + what the plan changes).
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "engine/kv/arena_layout.h"
#include "engine/kv/residency.h"
#include "engine/schedule/step_plan.h"

namespace hysparse {

struct BatchLimits {
  int32_t max_tokens = 0;     // of one step
  int32_t max_sequences = 0;  // slots: running sequences, and those of one step
  int32_t max_context = 0;    // tokens of one sequence
};

class PlanCheck {
 public:
  PlanCheck() = default;
  PlanCheck(const KvLayout& layout, const BatchLimits& limits, const ArenaLayout& device, const ArenaLayout& host);

  // InvalidArgument names the sequence and the numbers. kSampledToken must have been resolved; token and row ranges of
  // the chunks follow each other and are the whole arrays.
  absl::Status Check(const StepPlan& plan);
  // The plan was checked and its changes are being made.
  void Accept(const StepPlan& plan);

 private:
  struct Slot {
    int64_t sequence = -1;
    int32_t global_pages = 0;
    bool in_step = false;  // while Check runs
  };
  absl::Status CheckChunks(const StepPlan& plan);
  absl::Status CheckChunk(const StepPlan& plan, const PlannedChunk& chunk, int32_t first_token, int32_t first_row);
  absl::Status CheckRows(const StepPlan& plan, const PlannedChunk& chunk, int32_t first_row) const;
  absl::Status CheckGlobal(const StepPlan& plan, const PlannedChunk& chunk) const;
  absl::Status CheckWindow(const StepPlan& plan, const PlannedChunk& chunk) const;
  absl::Status CheckUpdates(const StepPlan& plan) const;
  // Pages that the slot's table holds after the chunk's changes.
  int64_t GlobalPages(const PlannedChunk& chunk) const;

  KvLayout layout_;
  BatchLimits limits_;
  ArenaLayout device_, host_;
  std::vector<Slot> slots_;
};

}  // namespace hysparse
