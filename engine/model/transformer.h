// Transformer: one forward pass of any ModelSpec over a ragged batch, written once against kernels/ops.h:
//
//   h += attn(rms_norm(h));  h += mlp(rms_norm(h))                     attn: full, SWA or sparse;  mlp: SwiGLU or
//   experts
//
// Runs on its rank's thread. Holds the activations of one step; K and V go to the pages that the inputs name. Nothing
// is allocated after Make. Source: the HySparse specification, sections 1 to 3.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/activations.h"
#include "engine/model/model_spec.h"
#include "engine/model/weights.h"
#include "kernels/ops.h"

namespace hysparse {

// The batch from a layer on, when rows of a rebuild that no layer from there on needs have left it. A pointer is device
// memory.
struct ShrunkBatch {
  size_t layer = 0;
  RaggedBatch batch;
  const int32_t* keep = nullptr;  // [T] its rows in the batch before
};

// One step's inputs; all pointers are device memory.
struct StepInputs {
  RaggedBatch batch;                     // at layer 0
  std::span<const ShrunkBatch> shrinks;  // by ascending layer > 0
  const int32_t* tokens = nullptr;       // [T]
  std::span<const PagedKv> kv;           // one per layer, block tables filled in
  // [S] or null: first position whose K and V full layers write, and first key that window layers see.
  const int32_t* write_from = nullptr;
  const int32_t* window_from = nullptr;
};

// Receives the discrete choices of a step, on the host: for tests and tools, never while serving.
class StepTrace {
 public:
  virtual ~StepTrace() = default;
  // ids [T, kv_heads, top] ascending, -1 padded; counts [T, kv_heads]. `layer` is the full layer that chose.
  virtual void OnBlocks(int32_t layer, int32_t kv_heads, int32_t top, std::span<const int32_t> ids,
                        std::span<const int32_t> counts) = 0;
  // ids [T, top] ascending.
  virtual void OnExperts(int32_t layer, int32_t top, std::span<const int32_t> ids) = 0;
};

class Transformer {
 public:
  // `spec`, `weights` and `backend` outlive the transformer. A step has at most `max_tokens` tokens, a sequence at most
  // `max_context`.
  static absl::StatusOr<std::unique_ptr<Transformer>> Make(const ModelSpec& spec, const Weights& weights,
                                                           Backend& backend, int32_t max_tokens, int32_t max_context);

  // Computes h of every token that the last layer's batch has.
  void Forward(StepInputs in);

  // Logits of rows index[0 … count) of the last Forward, [count, V] fp32 on the device, valid until the next call.
  // count <= logit_rows(); `index` is device memory.
  const float* Logits(const int32_t* index, int32_t count);
  int32_t logit_rows() const { return a_.logit_rows; }

  const OpContext& context() const { return a_.context; }
  int64_t activation_bytes() const { return a_.bytes; }
  void set_trace(StepTrace* trace) { trace_ = trace; }

 private:
  Transformer(const ModelSpec& spec, const Weights& weights, Backend& backend, Activations activations)
      : spec_(spec), weights_(weights), backend_(backend), a_(std::move(activations)) {}

  void Embed(const StepInputs& in);
  // Leaves the rows `keep` of the residual, and of the blocks chosen if layers to come read them.
  void Shrink(const ShrunkBatch& to);
  void Gather(const void* x, const ShrunkBatch& to, int32_t width, void* out);
  // h += delta (null: nothing); then, given a norm's weight, x = rms_norm(h).
  void UpdateResidual(const float* delta, const float* norm, int32_t rows, bool fp32_too = false);
  void Project(const StepInputs& in, size_t l);
  void Attend(const StepInputs& in, size_t l);
  void AttendFull(const StepInputs& in, size_t l, void* out, DType out_dtype);
  void AttendWindow(const StepInputs& in, size_t l, void* out, DType out_dtype);
  void AttendSparse(const StepInputs& in, size_t l);
  void Gate(const StepInputs& in, size_t l);
  void Mlp(size_t l, int32_t rows);
  void Experts(size_t l, int32_t rows);
  void SwiGlu(const LayerWeights& w, int32_t rows);
  void Gemm(const PackedMatrix& weight, const float* bias, const void* a, int32_t rows, float* out);
  AttentionParams CommonAttention(const StepInputs& in, size_t l, const PagedKv& kv) const;
  BlockSelection Selection(const LayerSpec& oracle) const;
  void TraceBlocks(size_t l, int32_t rows);
  void TraceExperts(size_t l, int32_t rows);

  const ModelSpec& spec_;
  const Weights& weights_;
  Backend& backend_;
  Activations a_;
  StepTrace* trace_ = nullptr;
};

}  // namespace hysparse
