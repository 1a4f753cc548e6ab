// Worker: one rank. Copies a step's pages, runs its forward pass and samples its rows. Its thread's alone.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "engine/run/executor.h"
#include "engine/run/model_runner.h"
#include "engine/run/sampler.h"

namespace hysparse {

// Puts the samples of the step before where the plan reads kSampledToken: chunks' tokens, whose input_row becomes -1,
// and history entries, of which one whose token the row already counts is added to that count and dropped. A row that
// could not be sampled reads as token 0. InvalidArgument when the plan names a row that the step before did not have.
absl::Status ResolveSampledTokens(const std::vector<int32_t>& samples, StepPlan& plan);

class Worker : public StepRunner {
 public:
  // What the runner was made of outlives the worker.
  static absl::StatusOr<std::unique_ptr<Worker>> Make(std::unique_ptr<ModelRunner> runner, int32_t vocab);

  absl::StatusOr<StepResult> Run(StepPlan& plan) override;

 private:
  Worker(std::unique_ptr<ModelRunner> runner, std::unique_ptr<Sampler> sampler)
      : runner_(std::move(runner)), sampler_(std::move(sampler)) {}

  std::unique_ptr<ModelRunner> runner_;
  std::unique_ptr<Sampler> sampler_;
  std::vector<int32_t> samples_;  // of the last step's rows; 0 when it failed
};

}  // namespace hysparse
