// ModelRunner: one rank's forward pass. Turns a StepPlan into device arrays, begins its page copies, runs the
// Transformer over the KV pool's pages and hands out logits slice by slice, so that a long prompt whose every row is
// scored needs no [T, V] buffer. One thread (the rank's); everything is allocated in Make.
//
//   runner->Forward(plan);
//   for (int32_t r = 0; r < runner->num_logit_rows(); r += n)
//     Sample(runner->Logits(r, n = std::min(runner->logit_slice(), runner->num_logit_rows() - r)), n);
//   runner->Finish();
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/model_spec.h"
#include "engine/model/transformer.h"
#include "engine/model/weights.h"
#include "engine/run/batch_inputs.h"
#include "engine/run/kv_pool.h"
#include "engine/schedule/step_plan.h"
#include "kernels/ops.h"

namespace hysparse {

struct RunnerOptions {
  BatchLimits limits;
  ArenaLayout arena;
  ArenaLayout host_arena;  // for spilled pages; no slabs: none
};

class ModelRunner {
 public:
  // `spec`, `weights` and `backend` outlive the runner.
  static absl::StatusOr<std::unique_ptr<ModelRunner>> Make(const ModelSpec& spec, const Weights& weights,
                                                           Backend& backend, const RunnerOptions& options);

  // InvalidArgument: the plan breaks a limit or names a page it may not. The step is then not run, nothing is copied
  // and no table changed. Tokens are known: kSampledToken is refused.
  absl::Status Forward(const StepPlan& plan);
  // Returns when the step's copies are done.
  void Finish() { backend_.FinishCopies(context()); }

  // Rows of the last Forward whose logits the plan wants, in order of the plan.
  int32_t num_logit_rows() const { return inputs_.num_logit_rows(); }
  int32_t logit_slice() const { return transformer_->logit_rows(); }
  // [count, V] fp32 on the device, valid until the next call; first + count <= num_logit_rows(), count <=
  // logit_slice().
  const float* Logits(int32_t first, int32_t count);

  Backend& backend() { return backend_; }
  const OpContext& context() const { return transformer_->context(); }
  const KvPool& pool() const { return pool_; }
  int64_t activation_bytes() const { return transformer_->activation_bytes(); }
  void set_trace(StepTrace* trace) { transformer_->set_trace(trace); }

 private:
  ModelRunner(Backend& backend, std::unique_ptr<Transformer> transformer, KvPool pool, BatchInputs inputs);

  Backend& backend_;
  std::unique_ptr<Transformer> transformer_;
  KvPool pool_;
  BatchInputs inputs_;
  std::vector<PagedKv> kv_;  // one per layer; the tables change every step
};

}  // namespace hysparse
