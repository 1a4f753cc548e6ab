// The engine's step loop without its threads, queue limits and clock: Scheduler, BlockManager and the fake model,
// driven step by step. After every plan and every step it checks what must always hold: conservation, one writer a
// page, the bound on overtaking, and that each row saw its exact context.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/schedule/scheduler.h"
#include "tests/unit/engine/test_engine.h"

namespace hysparse {

struct HarnessOptions {
  EngineOptions engine = TestOptions();
  ModelSpec spec = TestSpec();
  int32_t steps_in_flight = 2;  // 1: every token is known when the next plan is made
  uint32_t stop_every = 0;
  bool check_pages = true;  // after each step; O(pages)
};

class ScheduleHarness {
 public:
  using SequencePtr = std::shared_ptr<Sequence>;

  explicit ScheduleHarness(HarnessOptions options)
      : options_(std::move(options)),
        model_(std::make_shared<FakeModel>()),
        executor_(model_, options_.spec, options_.engine),
        blocks_(std::make_unique<BlockManager>(BlocksOf(options_))),
        scheduler_(std::make_unique<Scheduler>(ScheduleOf(options_), blocks_.get())) {
    model_->stop_every = options_.stop_every;
    model_->log_steps = false;
  }

  // All choices of a request, or none when it can never fit.
  std::vector<SequencePtr> Add(GenerateRequest request) {
    const auto length = static_cast<int64_t>(request.prompt.size());
    if (!blocks_->CanEverFit(length + std::max(1, request.max_tokens) - 1).ok()) return {};
    auto state = std::make_shared<RequestState>();
    state->stop_ids = {7};
    state->cached = options_.engine.prefix_caching || request.n > 1;
    if (state->cached) {
      state->salt = blocks_->hash().Salt(options_.engine.prefix_caching ? "salt " + request.cache_salt : request.id);
      state->page_hashes = blocks_->hash().Pages(state->salt, request.prompt);
    }
    state->live_choices = request.n;
    state->request = std::move(request);
    std::vector<SequencePtr> choices;
    for (int32_t choice = 0; choice < state->request.n; ++choice) {
      choices.push_back(std::make_shared<Sequence>(next_id_++, state, choice));
    }
    for (const SequencePtr& sequence : choices) {
      live_[sequence->id()] = sequence;
      if (sequence->pending_tokens() == 0) {
        End(*sequence, FinishReason::kLength);
      } else if (sequence == choices.front()) {
        Enqueue(sequence);
      } else {
        state->followers.push_back(sequence);
      }
    }
    if (choices.front()->state() == SequenceState::kFinished || choices.front()->scores_prompt()) Release(*state);
    return choices;
  }

  // One turn of the engine's loop. False when there was nothing to launch and nothing to wait for.
  bool Turn() {
    const bool launched = !live_.empty() && Launch();
    const bool full = static_cast<int32_t>(in_flight_.size()) >= options_.steps_in_flight;
    if (!full && (launched || in_flight_.empty())) return launched;
    Commit();
    return true;
  }
  // Until all have ended; fails the test when that takes more than `turns`.
  void Drain(int turns = 100000) {
    for (; !live_.empty() || !in_flight_.empty(); --turns) {
      ASSERT_GT(turns, 0) << live_.size() << " sequences make no progress";
      ASSERT_TRUE(Turn()) << "nothing can be done for " << live_.size() << " sequences";
      if (testing::Test::HasFatalFailure()) return;
    }
  }

  void End(Sequence& sequence, FinishReason reason) {
    const SequencePtr keep = live_.at(sequence.id());
    if (sequence.kv() != nullptr && reason != FinishReason::kError) {
      blocks_->Retire(*sequence.kv(), sequence.computed_tokens(), [&](int32_t at) { return sequence.token(at); });
    }
    sequence.Finish(reason);
    Release(*sequence.shared());
    scheduler_->Remove(sequence);
    passed_.erase(sequence.id());
    live_.erase(sequence.id());
    ExpectTokens(sequence);
    ++operations_;
  }
  void Cancel(Sequence& sequence) { End(sequence, FinishReason::kCancelled); }

  BlockManager& blocks() { return *blocks_; }
  Scheduler& scheduler() { return *scheduler_; }
  FakeModel& model() { return *model_; }
  const HarnessOptions& options() const { return options_; }
  const std::map<int64_t, SequencePtr>& live() const { return live_; }
  const StepPlan& plan() const { return plan_; }  // the last one launched
  // Sequences added, ended and admitted, chunks, pages spilled, moved and returned.
  int64_t operations() const { return operations_; }
  int32_t most_passed() const { return most_passed_; }
  const std::map<int64_t, std::vector<int32_t>>& outputs() const { return outputs_; }  // of those that ended

  bool Launch() {
    StepPlan plan = scheduler_->Plan();
    for (const SequencePtr& sequence : scheduler_->newly_admitted()) CountOvertaken(*sequence);
    if (plan.empty()) {
      EXPECT_FALSE(in_flight_.empty()) << "no sequence can make progress";
      return false;
    }
    Step step{plan.step, scheduler_->TakePlanned(), {}};
    for (const SampleRow& row : plan.rows) step.targets.push_back(row.target);
    operations_ += static_cast<int64_t>(plan.chunks.size() + plan.spills.size() + plan.moves.size() +
                                        plan.returns.size() + scheduler_->newly_admitted().size());
    CheckWriters(plan, step.planned);
    in_flight_.push_back(std::move(step));
    plan_ = plan;
    executor_.Launch(std::move(plan));
    return true;
  }

  void Commit() {
    const Step step = std::move(in_flight_.front());
    in_flight_.pop_front();
    const absl::StatusOr<StepResult> result = executor_.Wait();
    ASSERT_TRUE(result.ok()) << "step " << step.step << ": " << result.status();
    blocks_->CompleteStep(step.step);
    for (const PlannedSequence& planned : step.planned) {
      if (planned.sequence->state() != SequenceState::kFinished) Commit(step, planned, *result);
    }
    if (!options_.check_pages) return;
    const absl::Status status = blocks_->Check();
    ASSERT_TRUE(status.ok()) << "step " << step.step << ": " << status;
  }

 private:
  struct Step {
    uint64_t step = 0;
    std::vector<PlannedSequence> planned;
    std::vector<int32_t> targets;
  };

  static BlockManagerOptions BlocksOf(const HarnessOptions& options) {
    return {options.engine.kv_layout, options.engine.arena, options.engine.host_arena, RebuildTokens(options.spec), 5};
  }
  static SchedulerOptions ScheduleOf(const HarnessOptions& options) {
    const EngineOptions& engine = options.engine;
    return {engine.max_num_seqs, engine.max_num_batched_tokens, engine.output_reserve, engine.max_overtakes,
            engine.shrink_budget_with_depth ? StepCost(options.spec) : StepCost()};
  }

  void Enqueue(const SequencePtr& sequence) {
    passed_[sequence->id()] = 0;
    scheduler_->Add(sequence);
    ++operations_;
  }
  void Release(RequestState& request) {
    for (const SequencePtr& sequence : std::exchange(request.followers, {})) {
      if (sequence->state() != SequenceState::kFinished) Enqueue(sequence);
    }
  }

  void Commit(const Step& step, const PlannedSequence& planned, const StepResult& result) {
    Sequence& sequence = *planned.sequence;
    if (sequence.kv() != nullptr) sequence.Computed(planned.computed);
    FinishReason finish = FinishReason::kNone;
    for (int32_t row = planned.rows.begin; row < planned.rows.end; ++row) {
      const auto at = static_cast<size_t>(row);
      if (step.targets[at] < 0) finish = sequence.Accept(step.step, result.token[at]);
    }
    const bool only_scores = sequence.request().max_tokens == 0;
    if (only_scores && sequence.computed_tokens() >= sequence.prompt_tokens() - 1) finish = FinishReason::kLength;
    if (finish != FinishReason::kNone) return End(sequence, finish);
    if (sequence.kv() != nullptr) {
      blocks_->Commit(*sequence.kv(), sequence.computed_tokens(), [&](int32_t at) { return sequence.token(at); });
    }
    if (sequence.computed_tokens() >= sequence.prompt_tokens()) Release(*sequence.shared());
  }

  // A page that a step writes belongs to nobody else and cannot be found by others.
  void CheckWriters(const StepPlan& plan, const std::vector<PlannedSequence>& planned) const {
    for (size_t i = 0; i < plan.chunks.size(); ++i) {
      const PlannedChunk& chunk = plan.chunks[i];
      const SequenceKv& kv = *planned[i].sequence->kv();
      for (const KvClass kv_class : {KvClass::kGlobal, KvClass::kWindow}) {
        const KvClassLayout& layout = blocks_->layout().of(kv_class);
        if (layout.layers == 0) continue;
        const BlockTable& table = kv_class == KvClass::kGlobal ? kv.global() : kv.window();
        const bool global = kv_class == KvClass::kGlobal;
        const int32_t first = std::max(chunk.position, global ? chunk.write_from : 0);
        const int32_t end = chunk.position + chunk.tokens.size();
        for (int32_t page = first / layout.page_tokens; first < end && page <= (end - 1) / layout.page_tokens; ++page) {
          ASSERT_EQ(blocks_->arena().references(kv_class, table.page(page)), 1)
              << "a page of sequence " << chunk.sequence << " is written and shared";
        }
      }
    }
  }

  // scheduler.h: 2 * max_overtakes by the queue's order and max_overtakes for want of memory.
  void CountOvertaken(const Sequence& admitted) {
    passed_.erase(admitted.id());
    for (auto& [id, passed] : passed_) {
      if (id >= admitted.id()) break;
      most_passed_ = std::max(most_passed_, ++passed);
      EXPECT_LE(passed, 3 * options_.engine.max_overtakes) << "sequence " << id << " starves";
      EXPECT_LE(live_.at(id)->schedule.overtaken, options_.engine.max_overtakes) << "sequence " << id << " starves";
    }
  }

  void ExpectTokens(const Sequence& sequence) {
    std::vector<int32_t> tokens;
    for (int32_t at = sequence.prompt_tokens(); at < sequence.num_tokens(); ++at) tokens.push_back(sequence.token(at));
    std::vector<int32_t> expected =
        ExpectedTokens(sequence.request(), static_cast<int32_t>(tokens.size()), sequence.choice(), options_.stop_every);
    if (sequence.finish_reason() == FinishReason::kStop) expected.push_back(7);
    EXPECT_EQ(tokens, expected) << "sequence " << sequence.id() << " saw another context than its own";
    if (sequence.finish_reason() == FinishReason::kLength) {
      EXPECT_EQ(sequence.output_tokens(), sequence.request().max_tokens);
    }
    outputs_[sequence.id()] = std::move(tokens);
  }

  HarnessOptions options_;
  std::shared_ptr<FakeModel> model_;
  FakeExecutor executor_;
  std::unique_ptr<BlockManager> blocks_;
  std::unique_ptr<Scheduler> scheduler_;
  std::map<int64_t, SequencePtr> live_;  // destroyed before the pages' owner
  std::deque<Step> in_flight_;
  StepPlan plan_;
  std::map<int64_t, int32_t> passed_;  // waiting, never admitted: how many of those that came later were
  std::map<int64_t, std::vector<int32_t>> outputs_;
  int64_t next_id_ = 0, operations_ = 0;
  int32_t most_passed_ = 0;
};

}  // namespace hysparse
