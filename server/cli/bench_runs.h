// Measurements through a running engine: what a client sees, beside the time that the forward passes took. The calling
// thread submits and waits.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/run/executor.h"

namespace hysparse {

// Sums up the time spent in forward passes. The counters are read from any thread.
class TimedRunner : public StepRunner {
 public:
  struct Totals {
    std::atomic<int64_t> nanoseconds{0}, steps{0};
  };

  TimedRunner(std::unique_ptr<StepRunner> inner, std::shared_ptr<Totals> totals)
      : inner_(std::move(inner)), totals_(std::move(totals)) {}
  absl::StatusOr<StepResult> Run(StepPlan& plan) override;

 private:
  std::unique_ptr<StepRunner> inner_;
  std::shared_ptr<Totals> totals_;
};

struct BenchRun {
  double first_token_s = 0;       // from Submit to the last sequence's first token
  double decode_tokens_s = 0;     // tokens a second while every sequence decodes
  double inter_token_s = 0;       // of one sequence in that time
  double forward_per_step_s = 0;  // of it, in forward passes
};

// `sequences` prompts of `prompt` random tokens, each answered with `output` >= 1 tokens, all at once.
absl::StatusOr<BenchRun> RunBatch(Engine& engine, const TimedRunner::Totals& totals, int32_t vocab, int32_t sequences,
                                  int32_t prompt, int32_t output);

// Random token ids, the same for the same seed.
std::vector<int32_t> RandomPrompt(int32_t vocab, int32_t tokens, uint64_t seed);

double Median(std::vector<double> values);

}  // namespace hysparse
