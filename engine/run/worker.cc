#include "engine/run/worker.h"

#include <algorithm>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/result.h"

namespace hysparse {
namespace {

// The row's last history entry stands for `token`, output once more.
void ResolveHistory(int32_t token, SampleRow& row, std::vector<TokenCount>& history) {
  const auto begin = history.begin() + row.history_begin, last = history.begin() + row.history_end - 1;
  const auto seen = std::find_if(begin, last, [&](const TokenCount& entry) { return entry.token == token; });
  if (seen == last) {
    last->token = token;
    return;
  }
  seen->output += last->output;
  --row.history_end;
}

absl::Status ResolveChunk(const std::vector<int32_t>& samples, PlannedChunk& chunk, StepPlan& plan) {
  const auto in = [](PlanRange range, size_t size) {
    return range.begin >= 0 && range.begin <= range.end && static_cast<size_t>(range.end) <= size;
  };
  if (static_cast<size_t>(chunk.input_row) >= samples.size() || !in(chunk.tokens, plan.tokens.size()) ||
      chunk.tokens.size() != 1 || plan.tokens[static_cast<size_t>(chunk.tokens.begin)] != kSampledToken ||
      !in(chunk.rows, plan.rows.size()))
    return absl::InvalidArgumentError(absl::StrCat("sequence ", chunk.sequence, ": row ", chunk.input_row, " of ",
                                                   samples.size(), " sampled is not the only token of its chunk"));
  const int32_t token = std::max(0, samples[static_cast<size_t>(chunk.input_row)]);
  plan.tokens[static_cast<size_t>(chunk.tokens.begin)] = token;
  chunk.input_row = -1;
  for (int32_t r = chunk.rows.begin; r < chunk.rows.end; ++r) {
    SampleRow& row = plan.rows[static_cast<size_t>(r)];
    if (row.history_begin >= row.history_end || !in({row.history_begin, row.history_end}, plan.history.size()))
      continue;
    if (plan.history[static_cast<size_t>(row.history_end) - 1].token == kSampledToken)
      ResolveHistory(token, row, plan.history);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ResolveSampledTokens(const std::vector<int32_t>& samples, StepPlan& plan) {
  for (PlannedChunk& chunk : plan.chunks) {
    if (chunk.input_row >= 0) HYSPARSE_RETURN_IF_ERROR(ResolveChunk(samples, chunk, plan));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Worker>> Worker::Make(std::unique_ptr<ModelRunner> runner, int32_t vocab) {
  HYSPARSE_ASSIGN_OR_RETURN(std::unique_ptr<Sampler> sampler,
                            Sampler::Create(&runner->backend(), vocab, runner->logit_slice()));
  return std::unique_ptr<Worker>(new Worker(std::move(runner), std::move(sampler)));
}

absl::StatusOr<StepResult> Worker::Run(StepPlan& plan) {
  const absl::Status resolved = ResolveSampledTokens(samples_, plan);
  samples_.assign(plan.rows.size(), 0);
  HYSPARSE_RETURN_IF_ERROR(resolved);
  HYSPARSE_RETURN_IF_ERROR(runner_->Forward(plan));
  StepResult result;
  const int32_t count = runner_->num_logit_rows();
  for (int32_t row = 0; row < count;) {
    const int32_t slice = std::min(runner_->logit_slice(), count - row);
    sampler_->Sample(runner_->context(), runner_->Logits(row, slice),
                     std::span(plan.rows).subspan(static_cast<size_t>(row), static_cast<size_t>(slice)), plan, result);
    row += slice;
  }
  runner_->Finish();
  samples_ = result.token;
  return result;
}

}  // namespace hysparse
