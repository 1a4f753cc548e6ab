#include "engine/schedule/scheduler.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/schedule/plan_builder.h"

namespace hysparse {
Scheduler::Scheduler(const SchedulerOptions& options, BlockManager* blocks) : options_(options), blocks_(blocks) {
  options_.max_num_batched_tokens = std::max(1, options_.max_num_batched_tokens);
  // So that the running decodes always fit into one step.
  options_.max_num_seqs = std::clamp(options_.max_num_seqs, 1, options_.max_num_batched_tokens);
  for (int32_t slot = options_.max_num_seqs; slot-- > 0;) free_slots_.push_back(slot);
}

int64_t QueueKey(const SchedulerOptions& options, int64_t id, int32_t prompt_tokens, int32_t priority) {
  const double steps = options.cost.Of(0, prompt_tokens) / options.max_num_batched_tokens;
  const double handicap = std::floor(steps) + priority, most = options.max_overtakes;
  return id + static_cast<int64_t>(std::clamp(handicap, -most, most));
}

int32_t OutputReserve(const SchedulerOptions& options, int32_t left, int32_t preempted) {
  if (preempted == 0) return std::min(left, options.output_reserve);
  const int64_t first = std::max(kReturnReserve, options.output_reserve);
  return static_cast<int32_t>(std::min<int64_t>(left, first << std::min(preempted - 1, 31)));
}

void Scheduler::Add(SequencePtr sequence) {
  const int64_t key = QueueKey(options_, sequence->id(), sequence->prompt_tokens(), sequence->request().priority);
  Enqueue(std::move(sequence), key);
}

void Scheduler::Enqueue(SequencePtr sequence, int64_t key) {
  sequence->schedule.queue_key = key;
  waiting_.insert(std::move(sequence));
}

StepPlan Scheduler::Plan() {
  planned_.clear();
  newly_admitted_.clear();
  // A plan that only let go of pages, or took back a sequence that had none to copy, is not worth a step.
  for (int32_t i = 0; i <= options_.max_num_seqs; ++i) {
    PlanOnce();
    if (!plan_.empty() || !changed_) break;
  }
  return std::move(plan_);
}

void Scheduler::PlanOnce() {
  plan_ = StepPlan{};
  plan_.step = ++step_;
  tokens_left_ = options_.max_num_batched_tokens;
  spilled_now_ = changed_ = false;
  blocks_->BeginPlan(step_);
  SettleLast();
  PlanDecodes();
  PlanReturns();
  PlanAdmissions();
  PlanPrefills();
  // Last, since making room for one chunk may move the pages of another.
  for (size_t i = 0; i < planned_.size(); ++i) AppendTables(*planned_[i].sequence->kv(), plan_.chunks[i], plan_);
  blocks_->TakeCopies(plan_);
}

void Scheduler::SettleLast() {
  for (const SequencePtr& sequence : settle_) {
    if (sequence->kv() == nullptr) continue;
    sequence->Settle();
    blocks_->KeepSnapshots(*sequence->kv(), sequence->computed_tokens());
  }
  settle_.clear();
}

void Scheduler::PlanDecodes() {
  for (const SequencePtr& sequence : running_) {
    const SequenceKv* kv = sequence->kv();
    if (kv == nullptr || kv->spilled()) continue;  // preempted for one before it
    if (sequence->state() != SequenceState::kDecode || sequence->pending_tokens() == 0) continue;
    if (sequence->kv()->MaxAppend(1) > 0) {
      PlanChunk(sequence, 1);
    } else {
      MakeRoom(sequence);
    }
  }
  if (spilled_now_) {
    running_.remove_if([](const SequencePtr& s) { return s->kv() == nullptr || s->kv()->spilled(); });
  }
}

// Preempts one whose pages the plans after this one will have. One at a time: what it frees may be enough.
void Scheduler::MakeRoom(const SequencePtr& sequence) {
  if (spilled_now_ || blocks_->moving()) return;
  for (const KvClass kv_class : {KvClass::kGlobal, KvClass::kWindow}) {
    if (blocks_->arena().counts(kv_class).spilling > 0) return;
  }
  SequencePtr victim = sequence;
  for (const SequencePtr& other : running_) {
    if (Busy(*other) || other->id() < victim->id()) continue;
    if (other->kv()->claimed().global == other->kv()->global().size()) victim = other;
  }
  Preempt(victim);
}

void Scheduler::Preempt(const SequencePtr& victim) {
  spilled_now_ = changed_ = true;
  FreeSlot(*victim);
  victim->schedule.busy_step = step_;
  ++victim->schedule.preempted;
  ++stats_.preemptions;
  if (blocks_->Spill(*victim->kv())) {
    const auto younger = [&](const SequencePtr& other) { return other->id() > victim->id(); };
    spilled_.insert(std::find_if(spilled_.begin(), spilled_.end(), younger), victim);
    ++stats_.spills;
  } else {
    victim->Preempt();
    Enqueue(victim, INT64_MIN / 2 + victim->id());  // before all that never ran
    ++stats_.recomputes;
  }
}

void Scheduler::PlanReturns() {
  if (spilled_now_) return;
  while (!spilled_.empty() && static_cast<int32_t>(running_.size()) < options_.max_num_seqs) {
    const SequencePtr sequence = spilled_.front();
    if (Busy(*sequence) || !Return(sequence)) return;
    spilled_.pop_front();
    running_.push_back(sequence);
    sequence->schedule.busy_step = step_;  // its pages are there when this step is done
    changed_ = true;
    ++stats_.returns;
  }
}

void Scheduler::PlanAdmissions() {
  int32_t refused = 0;
  for (auto it = waiting_.begin(); it != waiting_.end() && spilled_.empty() && !spilled_now_;) {
    if (static_cast<int32_t>(running_.size()) >= options_.max_num_seqs || refused == kMostRefused) return;
    const SequencePtr sequence = *it;
    if (Busy(*sequence)) return;  // preempted just now
    if (!Admit(sequence)) {
      if (sequence->schedule.preempted > 0 || sequence->schedule.overtaken >= options_.max_overtakes) return;
      ++refused;
      ++it;
      continue;
    }
    bool patient = true;  // all that were passed may be passed again
    for (auto passed = waiting_.begin(); passed != it; ++passed) {
      patient &= ++(*passed)->schedule.overtaken < options_.max_overtakes;
    }
    it = waiting_.erase(it);
    running_.push_back(sequence);
    if (!patient) return;
  }
}

void Scheduler::PlanPrefills() {
  std::vector<std::pair<double, SequencePtr>> prefills;
  SequencePtr oldest;
  for (const SequencePtr& sequence : running_) {
    if (sequence->state() != SequenceState::kPrefill || Busy(*sequence) || sequence->pending_tokens() == 0) continue;
    prefills.emplace_back(CostLeft(*sequence), sequence);
    if (oldest == nullptr || sequence->id() < oldest->id()) oldest = sequence;
  }
  if (oldest == nullptr) return;
  std::stable_sort(prefills.begin(), prefills.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  double cost = tokens_left_;
  double reserved = std::min(cost * kOldestShare, CostLeft(*oldest));  // until the oldest had its turn
  for (const auto& [left, sequence] : prefills) {
    if (sequence == oldest) reserved = 0;
    cost -= PlanChunk(sequence, cost - reserved, sequence == oldest ? kLeastChunk : 1);
  }
}

double Scheduler::PlanChunk(const SequencePtr& sequence, double cost, int32_t least) {
  if (cost <= 0 || tokens_left_ <= 0) return 0;
  const int32_t position = sequence->planned_kv();
  const int32_t wanted = std::max(least, options_.cost.TokensFor(position, cost));
  const int32_t count = sequence->kv()->MaxAppend(std::min({wanted, sequence->pending_tokens(), tokens_left_}));
  if (count <= 0 || !sequence->kv()->BeginAppend(count)) return 0;
  AppendChunk(*sequence, count, plan_);
  planned_.push_back({sequence, position + count, plan_.chunks.back().rows});
  settle_.push_back(sequence);
  sequence->schedule.busy_step = step_;
  tokens_left_ -= count;
  return options_.cost.Of(position, count);
}

double Scheduler::CostLeft(const Sequence& sequence) const {
  return options_.cost.Of(sequence.planned_kv(), sequence.pending_tokens());
}

KvRequest Scheduler::RequestOf(const Sequence& sequence, std::vector<int32_t>& tokens,
                               std::vector<uint64_t>& hashes) const {
  const RequestState& shared = *sequence.shared();
  KvRequest request;
  request.tokens = shared.request.prompt;
  request.hashes = shared.page_hashes;
  request.salt = shared.salt;
  request.cached = shared.cached && !sequence.scores_prompt();
  request.prompt_tokens = sequence.prompt_tokens();
  const int32_t left = shared.request.max_tokens - sequence.output_tokens();
  const int32_t reserve = OutputReserve(options_, left, sequence.schedule.preempted);
  request.promise = std::min<int64_t>(sequence.max_kv_tokens(), int64_t{sequence.planned_tokens()} + reserve);
  if (sequence.output_tokens() > 0) {
    tokens = shared.request.prompt;
    for (int32_t at = sequence.prompt_tokens(); at < sequence.num_tokens(); ++at) tokens.push_back(sequence.token(at));
    request.tokens = tokens;
    if (request.cached) hashes = blocks_->hash().Pages(shared.salt, tokens);
    request.hashes = hashes;
  }
  return request;
}

bool Scheduler::Admit(const SequencePtr& sequence) {
  Sequence::Schedule& note = sequence->schedule;
  if (note.refused && !blocks_->CanProvide(note.lacked)) return false;
  std::vector<int32_t> tokens;
  std::vector<uint64_t> hashes;
  std::unique_ptr<SequenceKv> kv = blocks_->Admit(RequestOf(*sequence, tokens, hashes), &note.lacked);
  note.refused = kv == nullptr;
  if (kv == nullptr) return false;
  if (!note.admitted) {
    newly_admitted_.push_back(sequence);
    note.reused_tokens = kv->num_tokens();
  }
  sequence->Admit(std::move(kv));
  TakeSlot(*sequence);
  return true;
}

bool Scheduler::Return(const SequencePtr& sequence) {
  std::vector<int32_t> tokens;
  std::vector<uint64_t> hashes;
  if (!blocks_->Return(*sequence->kv(), RequestOf(*sequence, tokens, hashes))) return false;
  TakeSlot(*sequence);
  return true;
}

void Scheduler::TakeSlot(Sequence& sequence) {
  sequence.schedule.slot = free_slots_.back();
  free_slots_.pop_back();
  sequence.kv()->set_slot(sequence.schedule.slot);
}

void Scheduler::FreeSlot(Sequence& sequence) {
  if (sequence.schedule.slot >= 0) free_slots_.push_back(std::exchange(sequence.schedule.slot, -1));
}

void Scheduler::Remove(Sequence& sequence) {
  FreeSlot(sequence);
  const auto is_it = [&](const SequencePtr& other) { return other.get() == &sequence; };
  if (running_.remove_if(is_it) > 0 || spilled_.remove_if(is_it) > 0) return;
  const auto it = waiting_.find(SequencePtr(SequencePtr{}, &sequence));
  if (it != waiting_.end()) waiting_.erase(it);
}

std::vector<const Sequence*> Scheduler::Queue(int32_t count) const {
  std::vector<const Sequence*> queue;
  for (const SequencePtr& sequence : waiting_) {
    if (static_cast<int32_t>(queue.size()) == count) break;
    queue.push_back(sequence.get());
  }
  return queue;
}

}  // namespace hysparse
