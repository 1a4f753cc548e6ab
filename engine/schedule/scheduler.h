// Scheduler: which sequences run in the next step and how far each gets. Continuous batching, first come first served,
// with chunked prefill under a token budget. Engine thread only; knows no clock, no device and no request's sink.
//
//   scheduler.Add(sequence);
//   StepPlan plan = scheduler.Plan();     // phases: decodes, then prefills under way, then the queue's head
//   …run it, Advance and Accept each planned sequence…
//   scheduler.Remove(sequence);           // when it finished, in any state
//
// Rules. A running decode gets its token in every step. Prefills share what the budget leaves, oldest first. The head
// of the queue is admitted when KV pages for its whole life can be promised; nobody overtakes it, so nobody starves,
// and no sequence runs out of pages midway. A step's cost on the host is O(running + tokens + pages of the running
// sequences): a block table is copied into the plan whole (64 KiB a million tokens), a plan being free of pointers.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "engine/kv/block_manager.h"
#include "engine/schedule/step_plan.h"
#include "engine/sequence.h"

namespace hysparse {

struct SchedulerLimits {
  int32_t max_num_seqs = 64;
  int32_t max_num_batched_tokens = 2048;
};

class Scheduler {
 public:
  Scheduler(const SchedulerLimits& limits, BlockManager* blocks);

  void Add(std::shared_ptr<Sequence> sequence);  // to the end of the queue
  StepPlan Plan();
  // Forgets a sequence, running or waiting.
  void Remove(const Sequence& sequence);

  // The sequences of the last plan, chunk by chunk.
  const std::vector<std::shared_ptr<Sequence>>& planned() const { return planned_; }
  const std::list<std::shared_ptr<Sequence>>& running() const { return running_; }  // oldest first
  const std::list<std::shared_ptr<Sequence>>& waiting() const { return waiting_; }

 private:
  void PlanDecodes();
  void PlanPrefills();
  void PlanAdmissions();
  // Gives the sequence as much of the budget as it can use.
  void PlanChunk(const std::shared_ptr<Sequence>& sequence);

  SchedulerLimits limits_;
  BlockManager* blocks_;
  std::list<std::shared_ptr<Sequence>> waiting_, running_;
  // Of the step being planned.
  StepPlan plan_;
  std::vector<std::shared_ptr<Sequence>> planned_;
  int32_t budget_ = 0;
  uint64_t step_ = 0;
};

}  // namespace hysparse
