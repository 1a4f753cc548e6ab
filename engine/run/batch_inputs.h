// BatchInputs: a StepPlan as device arrays. Sized for the largest step at Make; Fill writes host staging and uploads
// what the step uses. The global block tables of all slots stay on the device and get what a plan changes. Owned by a
// ModelRunner; used on its rank's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/transformer.h"
#include "engine/run/plan_check.h"
#include "kernels/ops.h"

namespace hysparse {

// One KV class's block tables, as PagedKv takes them.
struct BlockTables {
  const int32_t* pages = nullptr;
  int32_t stride = 0;
  const int32_t* row = nullptr;
  const int32_t* first_page = nullptr;
};

class BatchInputs {
 public:
  // `rebuild_rows` as RebuildRows (engine/model/rebuild.h) gives them.
  static absl::StatusOr<BatchInputs> Make(const KvLayout& layout, const std::vector<int64_t>& rebuild_rows,
                                          const BatchLimits& limits, const ArenaLayout& device, const ArenaLayout& host,
                                          Backend& backend);

  // InvalidArgument when PlanCheck refuses the plan; the tables are then as they were.
  absl::Status Fill(const StepPlan& plan);

  // All but the KV views. No token and no sequence when the plan has no chunk.
  const StepInputs& inputs() const { return inputs_; }
  const BlockTables& tables(KvClass kv_class) const { return kv_class == KvClass::kGlobal ? global_ : window_; }
  // [R] rows of the batch that the last layer sees, in order of the plan's rows.
  const int32_t* logit_index() const { return logit_index_.device; }
  int32_t num_logit_rows() const { return static_cast<int32_t>(logit_index_.host.size()); }

 private:
  // A device array and its staging, which never grows beyond its capacity.
  struct Array {
    std::vector<int32_t> host;
    int32_t* device = nullptr;
  };
  // The batch from some layer on: rows of a rebuild leave it on the way.
  struct Stage {
    size_t layer = 0;
    Array keep, position, sequence, query_start;
  };

  // The first row of the chunk that is computed from layer l on.
  int32_t FirstRow(const PlannedChunk& chunk, size_t l) const;
  void FillStages(const StepPlan& plan);
  void FillStage(const StepPlan& plan, size_t stage, size_t l);
  RaggedBatch Batch(const Stage& stage) const;
  void FillTables(const StepPlan& plan);
  void FillRebuilds(const StepPlan& plan);
  void FillLogitIndex(const StepPlan& plan);
  void Upload(const Array& array);

  KvLayout layout_;
  std::vector<int64_t> rebuild_rows_;
  PlanCheck check_;
  Backend* backend_ = nullptr;
  std::shared_ptr<std::byte> memory_;
  std::vector<Stage> stages_;
  size_t used_stages_ = 0;
  std::vector<ShrunkBatch> shrinks_;
  Array tokens_, logit_index_, slot_, write_from_, window_from_, window_table_, window_first_;
  int32_t* global_table_ = nullptr;  // [slots, global_.stride]
  StepInputs inputs_;
  BlockTables global_, window_;
};

}  // namespace hysparse
