// CpuBackend: kernels/ops.h on the host's cores. One calling thread (the rank's); it is worker 0 of the pool that the
// backend owns. Pack and Allocate before readiness only; no op allocates. Made by MakeCpuBackend (kernels/ops.h), or
// here with a given instruction set, for tests.
#pragma once

#include <memory>
#include <string>

#include "kernels/cpu/cpu_features.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/ops.h"

namespace hysparse::cpu {

class CpuBackend : public Backend {
 public:
  CpuBackend(DType compute_dtype, int threads, CpuIsa isa);

  DType compute_dtype() const override { return compute_; }
  std::string Describe() const override;

  absl::StatusOr<std::shared_ptr<std::byte>> Allocate(size_t bytes) override;
  absl::StatusOr<std::shared_ptr<std::byte>> AllocateHost(size_t bytes) override;
  absl::StatusOr<std::unique_ptr<PackedMatrix>> Pack(std::span<const MatrixSource> sources) override;
  size_t WorkspaceBytes(const StepLimits& limits) const override;
  void Upload(void* device, const void* host, size_t bytes) override;
  void Download(void* host, const void* device, size_t bytes) override;

  void Embed(const OpContext& ctx, const EmbedParams& p) override;
  void RmsNorm(const OpContext& ctx, const RmsNormParams& p) override;
  void Gemm(const OpContext& ctx, const GemmParams& p) override;
  void HeadNorm(const OpContext& ctx, const HeadNormParams& p) override;
  void Rope(const OpContext& ctx, const RopeParams& p) override;
  void KvWrite(const OpContext& ctx, const KvWriteParams& p) override;
  void DenseAttention(const OpContext& ctx, const DenseAttentionParams& p) override;
  void WindowAttention(const OpContext& ctx, const WindowAttentionParams& p) override;
  void SparseAttention(const OpContext& ctx, const SparseAttentionParams& p) override;
  void Gate(const OpContext& ctx, const GateParams& p) override;
  void Router(const OpContext& ctx, const RouterParams& p) override;
  void Experts(const OpContext& ctx, const ExpertsParams& p) override;
  void GatherRows(const OpContext& ctx, const GatherRowsParams& p) override;
  void Sample(const OpContext& ctx, const SampleParams& p) override;
  void Copy(const OpContext& ctx, const CopyParams& p) override;
  void FinishCopies(const OpContext& ctx) override;

 private:
  const DType compute_;
  const CpuIsa isa_;
  ThreadPool pool_;
  GemmEngine gemm_;
  const Machine machine_;
};

}  // namespace hysparse::cpu
