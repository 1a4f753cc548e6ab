// The step loop's two halves: plan and launch one step, take the results of the one before.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/engine_impl.h"
#include "engine/schedule/commit.h"

namespace hysparse {

// False when there is nothing that the device could do now.
bool Engine::Impl::LaunchStep() {
  StepPlan plan = scheduler_.Plan();
  PublishStats();  // before the queue shrinks, so that nobody sees a sequence in neither
  for (const SequencePtr& sequence : scheduler_.newly_admitted()) {
    sequence->first_scheduled = now_;
    inbox_.Left(sequence->prompt_tokens());
  }
  if (plan.empty()) {
    if (in_flight_.empty()) EndAll(FinishReason::kError, absl::InternalError("no sequence can make progress"));
    return false;
  }
  StepInFlight step;
  step.step = plan.step;
  step.planned = scheduler_.TakePlanned();
  step.tokens = plan.num_tokens();
  step.launched = now_;
  step.work = MeasureStep(plan, scheduler_.options().cost);
  step.targets.reserve(plan.rows.size());
  for (const SampleRow& row : plan.rows) step.targets.push_back(row.target);
  for (size_t i = 0; i < plan.chunks.size(); ++i) {
    const Sequence& sequence = *step.planned[i].sequence;
    if (sequence.state() == SequenceState::kPrefill) step.prompt_tokens += plan.chunks[i].tokens.size();
  }
  in_flight_.push_back(std::move(step));
  executor_->Launch(std::move(plan));
  return true;
}

void Engine::Impl::CommitOldest() {
  const absl::StatusOr<StepResult> result = executor_->Wait();
  const StepInFlight step = std::move(in_flight_.front());
  in_flight_.pop_front();
  now_ = Clock::now();
  board_.Step(now_);
  const double seconds = Between(std::max(step.launched, std::exchange(last_done_, now_)), now_);
  if (result.ok()) step_clock_.Observe(step.work, seconds);
  if (observer_ != nullptr) {
    observer_->OnStep(step.tokens, step.prompt_tokens, static_cast<int32_t>(step.planned.size()), seconds);
  }
  blocks_.CompleteStep(step.step);
  if (result.ok()) {
    CommitStep(step, *result);
  } else {
    FailStep(step, result.status());
  }
  if (options_.check_invariants) CheckInvariants();
}

void Engine::Impl::CommitStep(const StepInFlight& step, const StepResult& result) {
  const size_t rows = step.targets.size();
  if (result.token.size() != rows || result.logprob.size() != rows || result.top_logprobs.size() != rows) {
    return FailStep(
        step, absl::InternalError(absl::StrCat("the step returned ", result.token.size(), " of ", rows, " rows")));
  }
  for (const PlannedSequence& planned : step.planned) {
    // One that ended meanwhile was computed for nothing.
    if (planned.sequence->state() != SequenceState::kFinished) CommitSequence(step, planned, result);
  }
}

void Engine::Impl::CommitSequence(const StepInFlight& step, const PlannedSequence& planned, const StepResult& result) {
  Sequence& sequence = *planned.sequence;
  if (sequence.kv() != nullptr) sequence.Computed(planned.computed);
  StepOutput output;
  const FinishReason finish = CommitChunk(sequence, TakeRows(step, planned, result, output), blocks_);
  if (finish != FinishReason::kNone) return End(sequence, finish, std::move(output));
  if (sequence.computed_tokens() >= sequence.prompt_tokens()) ReleaseFollowers(*sequence.shared());
  if (output.prompt.empty() && output.tokens.empty()) return;
  output.choice = sequence.choice();
  output.reused_tokens = sequence.schedule.reused_tokens;
  sequence.shared()->sink->OnOutput(std::move(output));
}

FinishReason Engine::Impl::TakeRows(const StepInFlight& step, const PlannedSequence& planned, const StepResult& result,
                                    StepOutput& output) {
  Sequence& sequence = *planned.sequence;
  FinishReason finish = FinishReason::kNone;
  for (int32_t i = planned.rows.begin; i < planned.rows.end; ++i) {
    const auto row = static_cast<size_t>(i);
    TokenOutput token{result.token[row], result.logprob[row], result.top_logprobs[row]};
    if (token.token < 0 || token.token >= spec_.vocab) {
      output.error =
          absl::InternalError("no token can be sampled: the model's logits are not finite, or all are banned");
      return FinishReason::kError;
    }
    if (step.targets[row] >= 0) {
      output.prompt.push_back(std::move(token));
      continue;
    }
    finish = sequence.Accept(step.step, token.token);
    ObserveToken(sequence);
    if (finish == FinishReason::kStop) {
      output.stop_token = token.token;
    } else {
      output.tokens.push_back(std::move(token));
    }
  }
  return finish;
}

void Engine::Impl::ObserveToken(Sequence& sequence) {
  const bool first = sequence.first_token == kNever;
  if (first) sequence.first_token = now_;
  const Clock::time_point last = std::exchange(sequence.last_token, now_);
  if (observer_ == nullptr) return;
  if (first) {
    observer_->OnFirstToken(Between(sequence.shared()->arrival, now_));
  } else {
    observer_->OnInterTokenLatency(Between(last, now_));
  }
}

void Engine::Impl::FailStep(const StepInFlight& step, const absl::Status& error) {
  for (const PlannedSequence& planned : step.planned) {
    if (planned.sequence->state() == SequenceState::kFinished) continue;
    StepOutput output;
    output.error = error;
    End(*planned.sequence, FinishReason::kError, std::move(output));
  }
}

}  // namespace hysparse
