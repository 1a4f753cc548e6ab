// BatchInputs: a StepPlan as device arrays. Sized for the largest step at Make; Fill writes host staging and uploads
// what the step uses. Owned by a ModelRunner; used on its rank's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/kv/residency.h"
#include "engine/schedule/step_plan.h"
#include "kernels/ops.h"

namespace hysparse {

struct BatchLimits {
  int32_t max_tokens = 0;     // of one step
  int32_t max_sequences = 0;  // of one step
  int32_t max_context = 0;    // tokens of one sequence
};

// One KV class's block tables: [S, stride] page ids and the logical page of each row's column 0.
struct BlockTables {
  const int32_t* pages = nullptr;
  int32_t stride = 0;
  const int32_t* first_page = nullptr;
};

class BatchInputs {
 public:
  static absl::StatusOr<BatchInputs> Make(const KvLayout& layout, const BatchLimits& limits, int64_t global_pages,
                                          int64_t window_pages, Backend& backend);

  // InvalidArgument when the plan exceeds the limits, names a page that does not exist or lacks one that its tokens
  // need: a plan is checked here once, so that no kernel has to.
  absl::Status Fill(const StepPlan& plan);

  const RaggedBatch& batch() const { return batch_; }
  const int32_t* tokens() const { return tokens_.device; }
  const BlockTables& tables(KvClass kv_class) const { return kv_class == KvClass::kGlobal ? global_ : window_; }
  const int32_t* logit_index() const { return logit_index_.device; }  // [R] rows of the batch, in order of the plan
  int32_t num_logit_rows() const { return static_cast<int32_t>(logit_index_.host.size()); }

 private:
  // A device array and its staging, which never grows beyond `capacity`.
  struct Array {
    std::vector<int32_t> host;
    int32_t* device = nullptr;
    size_t capacity = 0;
  };

  absl::Status CheckChunk(const PlannedChunk& chunk) const;
  absl::Status CheckPages(const PlannedChunk& chunk, KvClass kv_class) const;
  absl::Status FillTables(const StepPlan& plan, KvClass kv_class);
  void Upload(const Array& array);

  KvLayout layout_;
  BatchLimits limits_;
  int64_t global_pages_ = 0, window_pages_ = 0;
  Backend* backend_ = nullptr;
  std::shared_ptr<std::byte> memory_;
  Array tokens_, position_, sequence_, query_start_, logit_index_;
  Array global_table_, global_first_, window_table_, window_first_;
  RaggedBatch batch_;
  BlockTables global_, window_;
};

}  // namespace hysparse
