#include "engine/run/worker.h"

#include <algorithm>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/result.h"

namespace hysparse {

absl::StatusOr<std::unique_ptr<Worker>> Worker::Make(std::unique_ptr<ModelRunner> runner, int32_t vocab) {
  HYSPARSE_ASSIGN_OR_RETURN(std::unique_ptr<Sampler> sampler,
                            Sampler::Create(&runner->backend(), vocab, runner->logit_slice()));
  return std::unique_ptr<Worker>(new Worker(std::move(runner), std::move(sampler)));
}

absl::StatusOr<StepResult> Worker::Execute(const StepPlan& plan) {
  HYSPARSE_RETURN_IF_ERROR(runner_->Forward(plan));
  rows_.clear();
  for (const PlannedChunk& chunk : plan.chunks) rows_.insert(rows_.end(), chunk.rows.begin(), chunk.rows.end());
  const int32_t count = runner_->num_logit_rows();
  if (static_cast<size_t>(count) != rows_.size()) {
    return absl::InvalidArgumentError(absl::StrCat("the plan has ", count, " logit rows and samples ", rows_.size()));
  }
  StepResult result;
  for (int32_t row = 0; row < count;) {
    const int32_t slice = std::min(runner_->logit_slice(), count - row);
    sampler_->Sample(runner_->context(), runner_->Logits(row, slice),
                     std::span(rows_).subspan(static_cast<size_t>(row), static_cast<size_t>(slice)), plan, result);
    row += slice;
  }
  return result;
}

}  // namespace hysparse
