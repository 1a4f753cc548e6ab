// Scheduler: which sequences run in the next step and how far each gets. Continuous batching with chunked prefill,
// admission by KV bytes and preemption by spilling. Engine thread only; knows no clock, no device and no request's
// sink.
//
//   scheduler.Add(sequence);
//   StepPlan plan = scheduler.Plan();          // while the step before runs; Settle and the phases below
//   …launch it; when it is done, Computed and Accept each of scheduler.TakePlanned(), blocks.Commit…
//   scheduler.Remove(sequence);                // when it finished, in any state
//
// Phases of a plan: settle what the last one planned; one token for each decode; spilled sequences return; the queue is
// admitted; prefills share what the budget leaves.
//
// Rules.
// - The queue's order is the order of arrival plus a handicap between -max_overtakes and max_overtakes: the steps that
//   the prompt will take, plus the request's priority (lower is sooner). So a short prompt may pass a long one, and
//   nobody is passed in this way by more than 2 * max_overtakes of those that came later.
// - A sequence is admitted when its prompt and min(max_tokens, output_reserve) more tokens can be promised. One that
//   cannot be may be passed by max_overtakes others that can, then the queue waits for it.
// - Beyond its promise a decode takes what is free. When nothing is, the youngest of those that hold all they were
//   promised is spilled to the host; if the host arena is full it is computed again later. Nothing is admitted before
//   all have returned. At its n-th return a sequence is promised 2^(n - 1) times the reserve, so it makes as many,
//   less a page, before it leaves again, and leaves O(log max_tokens) times.
// - Prefills share the budget, which counts tokens by their cost (step_cost.h): the one with the least left first, but
//   the oldest has at least an eighth. So a short prompt is computed in the step that it comes to, whatever runs, and a
//   long one goes on.
//
// The host's cost of a plan is O(running + log waiting + tokens), whatever the contexts.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "engine/kv/block_manager.h"
#include "engine/schedule/step_cost.h"
#include "engine/schedule/step_plan.h"
#include "engine/sequence.h"

namespace hysparse {

struct SchedulerOptions {
  int32_t max_num_seqs = 64;
  int32_t max_num_batched_tokens = 2048;
  int32_t output_reserve = 512;
  int32_t max_overtakes = 64;
  StepCost cost;  // default: a budget that does not shrink with depth
};

// Of the queue's first, how many that cannot be admitted are looked at in one plan.
constexpr int32_t kMostRefused = 16;
// The oldest prompt has one part in so many of a step at least, and gets so far, however deep.
constexpr double kOldestShare = 1.0 / 8;
constexpr int32_t kLeastChunk = 64;
// The reserve of a sequence that comes back for the first time is so many tokens at least.
constexpr int32_t kReturnReserve = 64;

// The place in the queue, lowest first, of sequence number `id`.
int64_t QueueKey(const SchedulerOptions& options, int64_t id, int32_t prompt_tokens, int32_t priority);
// Of the `left` answer tokens of a sequence, how many pages are promised for when it is admitted or returns, having
// been preempted so often.
int32_t OutputReserve(const SchedulerOptions& options, int32_t left, int32_t preempted);

// A sequence's part of a plan.
struct PlannedSequence {
  std::shared_ptr<Sequence> sequence;
  int32_t computed = 0;  // tokens it has when the step is done
  PlanRange rows;        // of the plan
};

struct SchedulerStats {
  int64_t preemptions = 0, spills = 0, recomputes = 0, returns = 0;
};

class Scheduler {
 public:
  using SequencePtr = std::shared_ptr<Sequence>;
  using Running = std::list<SequencePtr>;

  Scheduler(const SchedulerOptions& options, BlockManager* blocks);

  void Add(SequencePtr sequence);  // state waiting
  // Empty when nothing can be done before a step under way is done, or at all.
  StepPlan Plan();
  // The sequences of the last plan, chunk by chunk.
  std::vector<PlannedSequence> TakePlanned() { return std::exchange(planned_, {}); }
  // Sequences that the last plan admitted for the first time.
  const std::vector<SequencePtr>& newly_admitted() const { return newly_admitted_; }
  // Forgets a sequence, running, spilled or waiting.
  void Remove(Sequence& sequence);

  const Running& running() const { return running_; }  // those with pages on the device
  const Running& spilled() const { return spilled_; }  // oldest first
  int32_t num_waiting() const { return static_cast<int32_t>(waiting_.size()); }
  const SchedulerStats& stats() const { return stats_; }
  const SchedulerOptions& options() const { return options_; }
  // The first of the queue, in order, at most `count`.
  std::vector<const Sequence*> Queue(int32_t count) const;

 private:
  struct QueueOrder {
    bool operator()(const SequencePtr& a, const SequencePtr& b) const {
      return std::pair(a->schedule.queue_key, a->id()) < std::pair(b->schedule.queue_key, b->id());
    }
  };

  void PlanOnce();
  void SettleLast();
  void PlanDecodes();
  void PlanReturns();
  void PlanAdmissions();
  void PlanPrefills();

  void Enqueue(SequencePtr sequence, int64_t key);
  void MakeRoom(const SequencePtr& sequence);
  void Preempt(const SequencePtr& victim);
  bool Admit(const SequencePtr& sequence);
  bool Return(const SequencePtr& sequence);
  // Gives the sequence as many of its pending tokens as the step, its pages and `cost` allow, but `least` whatever they
  // cost. Returns what they do.
  double PlanChunk(const SequencePtr& sequence, double cost, int32_t least = 1);
  // What the sequence's KV is asked for; `tokens` and `hashes` hold what the request does not.
  KvRequest RequestOf(const Sequence& sequence, std::vector<int32_t>& tokens, std::vector<uint64_t>& hashes) const;
  double CostLeft(const Sequence& sequence) const;
  bool Busy(const Sequence& sequence) const { return sequence.schedule.busy_step == plan_.step; }
  void TakeSlot(Sequence& sequence);
  void FreeSlot(Sequence& sequence);

  SchedulerOptions options_;
  BlockManager* blocks_;
  std::set<SequencePtr, QueueOrder> waiting_;
  Running running_, spilled_;
  std::vector<int32_t> free_slots_;
  SchedulerStats stats_;
  // Of the step being planned.
  StepPlan plan_;
  std::vector<PlannedSequence> planned_;
  std::vector<SequencePtr> settle_;  // planned in the last step
  std::vector<SequencePtr> newly_admitted_;
  int32_t tokens_left_ = 0;
  bool spilled_now_ = false, changed_ = false;  // somebody was preempted; or came back
  uint64_t step_ = 0;
};

}  // namespace hysparse
