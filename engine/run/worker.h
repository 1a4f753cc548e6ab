// Worker: one rank. Runs a step's forward pass and samples its rows; as an Executor, the whole group when there is one
// rank. Execute runs on the caller's thread and blocks until the step is done.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/run/executor.h"
#include "engine/run/model_runner.h"
#include "engine/run/sampler.h"

namespace hysparse {

class Worker : public Executor {
 public:
  // What the runner was made of outlives the worker.
  static absl::StatusOr<std::unique_ptr<Worker>> Make(std::unique_ptr<ModelRunner> runner, int32_t vocab);

  absl::StatusOr<StepResult> Execute(const StepPlan& plan) override;

 private:
  Worker(std::unique_ptr<ModelRunner> runner, std::unique_ptr<Sampler> sampler)
      : runner_(std::move(runner)), sampler_(std::move(sampler)) {}

  std::unique_ptr<ModelRunner> runner_;
  std::unique_ptr<Sampler> sampler_;
  std::vector<SampleRow> rows_;  // of the step, in order of chunk and row
};

}  // namespace hysparse
