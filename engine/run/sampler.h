// Sampler: hands rows of logits and their sampling state to the backend's Sample op and fetches what came out. Rank
// thread. Its device buffers are made once; a call takes as many rows as they hold.
//
// A row's own entries always fit: the engine admits at most `vocab` biases, and bans and counts are distinct tokens.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/schedule/step_plan.h"
#include "kernels/ops.h"

namespace hysparse {

class Sampler {
 public:
  // `max_rows` >= 1 logit rows a slice; `backend` outlives the sampler.
  static absl::StatusOr<std::unique_ptr<Sampler>> Create(Backend* backend, int32_t vocab, int32_t max_rows);

  int32_t max_rows() const { return max_rows_; }

  // `rows` are consecutive rows of `plan`, at most max_rows(), and `logits` [rows, vocab] (device) theirs. Appends to
  // `result`. A row that cannot be sampled yields token -1.
  void Sample(const OpContext& ctx, const float* logits, std::span<const SampleRow> rows, const StepPlan& plan,
              StepResult& result);

 private:
  // One of the op's arrays: staged on the host, uploaded in one go.
  template <typename T>
  struct Array {
    std::vector<T> host;
    std::shared_ptr<std::byte> device;
    const T* Upload(Backend* backend);
  };

  Sampler(Backend* backend, int32_t vocab, int32_t max_rows) : backend_(backend), vocab_(vocab), max_rows_(max_rows) {}
  // Stages as many of `rows` as fit; returns how many, at least 1.
  int32_t Stage(std::span<const SampleRow> rows, const StepPlan& plan);
  void Run(const OpContext& ctx, const float* logits);
  void Fetch(StepResult& result);

  Backend* backend_;
  int32_t vocab_, max_rows_;
  Array<SampleRow> rows_;
  Array<TokenBias> bias_;
  Array<TokenCount> history_;
  Array<int32_t> banned_;
  Array<int32_t> token_, top_ids_;
  Array<float> logprob_, top_logprobs_;
};

}  // namespace hysparse
