// Every op of the model, declared on one screen. The model code (engine/model/transformer) is written once against
// `Backend`; kernels/cpu and kernels/cuda implement it and are chosen at run time, in one binary.
//
// Ops are called from one thread per backend (the rank's). They read all batch data from arrays, return nothing to the
// host and cannot fail: shapes are checked when the model is built. Scratch comes from the context's workspace, whose
// size is fixed before readiness, so that no op allocates.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/params.h"

namespace hysparse {

// A weight matrix in the backend's own layout, packed once at load time. Immutable.
class PackedMatrix {
 public:
  virtual ~PackedMatrix() = default;
  int32_t rows() const { return rows_; }  // N, output features
  int32_t cols() const { return cols_; }  // K, input features

 protected:
  PackedMatrix(int32_t rows, int32_t cols) : rows_(rows), cols_(cols) {}

 private:
  int32_t rows_, cols_;
};

// A row-major [rows, cols] matrix of the checkpoint (Hugging Face's [out, in]).
struct MatrixSource {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  int32_t rows = 0, cols = 0;
};

// Where an op runs. The workspace is free for every op to overwrite: nothing in it survives the op.
struct OpContext {
  void* stream = nullptr;  // cudaStream_t on a GPU; unused on the CPU
  std::byte* workspace = nullptr;
  size_t workspace_bytes = 0;
};

// The largest step that a context must be able to run.
struct StepLimits {
  int32_t max_tokens = 0;   // T
  int32_t max_context = 0;  // tokens of one sequence
  int32_t max_heads = 0, max_qk_dim = 0, max_v_dim = 0, kv_heads_min = 1;
  int32_t min_block = 64;  // smallest selection block
  int32_t hidden = 0, expert_width = 0, experts_per_token = 0, vocab = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual DType compute_dtype() const = 0;
  virtual std::string Describe() const = 0;  // "cpu, 2 threads, AMX-BF16" for the start-up summary

  // Device memory, zeroed, 64-byte aligned; used before readiness only.
  virtual absl::StatusOr<std::shared_ptr<std::byte>> Allocate(size_t bytes) = 0;
  // Host memory, zeroed, 64-byte aligned, for copies from and to the device; used before readiness only.
  virtual absl::StatusOr<std::shared_ptr<std::byte>> AllocateHost(size_t bytes) = 0;
  // Packs the sources, concatenated along their rows, into one matrix. Their memory may go away afterwards.
  virtual absl::StatusOr<std::unique_ptr<PackedMatrix>> Pack(std::span<const MatrixSource> sources) = 0;
  virtual size_t WorkspaceBytes(const StepLimits& limits) const = 0;
  virtual void Upload(void* device, const void* host, size_t bytes) = 0;
  virtual void Download(void* host, const void* device, size_t bytes) = 0;

  virtual void Embed(const OpContext& ctx, const EmbedParams& p) = 0;
  virtual void RmsNorm(const OpContext& ctx, const RmsNormParams& p) = 0;
  virtual void Gemm(const OpContext& ctx, const GemmParams& p) = 0;
  virtual void HeadNorm(const OpContext& ctx, const HeadNormParams& p) = 0;
  virtual void Rope(const OpContext& ctx, const RopeParams& p) = 0;
  virtual void KvWrite(const OpContext& ctx, const KvWriteParams& p) = 0;
  virtual void DenseAttention(const OpContext& ctx, const DenseAttentionParams& p) = 0;
  virtual void WindowAttention(const OpContext& ctx, const WindowAttentionParams& p) = 0;
  virtual void SparseAttention(const OpContext& ctx, const SparseAttentionParams& p) = 0;
  virtual void Gate(const OpContext& ctx, const GateParams& p) = 0;
  virtual void Router(const OpContext& ctx, const RouterParams& p) = 0;
  virtual void Experts(const OpContext& ctx, const ExpertsParams& p) = 0;
  virtual void GatherRows(const OpContext& ctx, const GatherRowsParams& p) = 0;
  virtual void Sample(const OpContext& ctx, const SampleParams& p) = 0;

  // A copy between host and device begins after the ops before it and may run beside those after it, until
  // FinishCopies; one inside the device is an op like the others.
  virtual void Copy(const OpContext& ctx, const CopyParams& p) = 0;
  // Returns when every copy between host and device is done.
  virtual void FinishCopies(const OpContext& ctx) = 0;
};

struct CpuOptions {
  DType compute_dtype = DType::kF32;  // kF32 or kBF16
  int threads = 0;                    // 0: one per available core
};

absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(const CpuOptions& options);

}  // namespace hysparse
