#include "engine/schedule/scheduler.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "engine/schedule/plan_builder.h"

namespace hysparse {

Scheduler::Scheduler(const SchedulerLimits& limits, BlockManager* blocks) : limits_(limits), blocks_(blocks) {
  limits_.max_num_batched_tokens = std::max(1, limits_.max_num_batched_tokens);
  // So that the running decodes always fit into one step.
  limits_.max_num_seqs = std::clamp(limits_.max_num_seqs, 1, limits_.max_num_batched_tokens);
}

void Scheduler::Add(std::shared_ptr<Sequence> sequence) { waiting_.push_back(std::move(sequence)); }

StepPlan Scheduler::Plan() {
  plan_ = StepPlan{};
  plan_.step = ++step_;
  planned_.clear();
  budget_ = limits_.max_num_batched_tokens;
  PlanDecodes();
  PlanPrefills();
  PlanAdmissions();
  return std::move(plan_);
}

void Scheduler::PlanDecodes() {
  for (const std::shared_ptr<Sequence>& sequence : running_) {
    if (sequence->state() == SequenceState::kDecode) PlanChunk(sequence);
  }
}

void Scheduler::PlanPrefills() {
  for (const std::shared_ptr<Sequence>& sequence : running_) {
    if (budget_ == 0) return;
    if (sequence->state() == SequenceState::kPrefill) PlanChunk(sequence);
  }
}

void Scheduler::PlanAdmissions() {
  while (budget_ > 0 && !waiting_.empty() && static_cast<int32_t>(running_.size()) < limits_.max_num_seqs) {
    std::optional<SequenceKv> kv = blocks_->Admit(waiting_.front()->max_kv_tokens());
    if (!kv) return;
    waiting_.front()->Admit(*std::move(kv));
    running_.splice(running_.end(), waiting_, waiting_.begin());
    PlanChunk(running_.back());
  }
}

void Scheduler::PlanChunk(const std::shared_ptr<Sequence>& sequence) {
  const int32_t count = sequence->kv()->MaxAppend(std::min(budget_, sequence->pending_tokens()));
  if (count == 0) return;
  sequence->kv()->BeginAppend(count);
  AppendChunk(*sequence, count, plan_);
  planned_.push_back(sequence);
  budget_ -= count;
}

void Scheduler::Remove(const Sequence& sequence) {
  const auto is_it = [&](const std::shared_ptr<Sequence>& other) { return other.get() == &sequence; };
  if (running_.remove_if(is_it) == 0) waiting_.remove_if(is_it);
}

}  // namespace hysparse
