#include "engine/run/model_runner.h"

#include <utility>

#include "engine/base/result.h"
#include "engine/model/rebuild.h"

namespace hysparse {

ModelRunner::ModelRunner(Backend& backend, std::unique_ptr<Transformer> transformer, KvPool pool, BatchInputs inputs)
    : backend_(backend), transformer_(std::move(transformer)), pool_(std::move(pool)), inputs_(std::move(inputs)) {
  for (size_t l = 0; l < pool_.layout().layers.size(); ++l) kv_.push_back(pool_.View(l));
}

absl::StatusOr<std::unique_ptr<ModelRunner>> ModelRunner::Make(const ModelSpec& spec, const Weights& weights,
                                                               Backend& backend, const RunnerOptions& options) {
  const BatchLimits& limits = options.limits;
  const KvLayout layout = MakeKvLayout(spec, backend.compute_dtype());
  HYSPARSE_ASSIGN_OR_RETURN(KvPool pool, KvPool::Make(layout, options.arena, options.host_arena, backend));
  HYSPARSE_ASSIGN_OR_RETURN(BatchInputs inputs, BatchInputs::Make(layout, RebuildRows(spec), limits, options.arena,
                                                                  options.host_arena, backend));
  HYSPARSE_ASSIGN_OR_RETURN(std::unique_ptr<Transformer> transformer,
                            Transformer::Make(spec, weights, backend, limits.max_tokens, limits.max_context));
  return std::unique_ptr<ModelRunner>(
      new ModelRunner(backend, std::move(transformer), std::move(pool), std::move(inputs)));
}

absl::Status ModelRunner::Forward(const StepPlan& plan) {
  HYSPARSE_RETURN_IF_ERROR(inputs_.Fill(plan));
  pool_.Copy(context(), plan);
  for (size_t l = 0; l < kv_.size(); ++l) {
    const BlockTables& tables = inputs_.tables(pool_.layout().layers[l].kv_class);
    kv_[l].block_table = tables.pages;
    kv_[l].table_stride = tables.stride;
    kv_[l].table_row = tables.row;
    kv_[l].first_page = tables.first_page;
  }
  StepInputs in = inputs_.inputs();
  in.kv = kv_;
  transformer_->Forward(in);
  return absl::OkStatus();
}

const float* ModelRunner::Logits(int32_t first, int32_t count) {
  return transformer_->Logits(inputs_.logit_index() + first, count);
}

}  // namespace hysparse
