// A Backend that hands every op to another: what a planted fault derives from, to get one op wrong.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "kernels/ops.h"

namespace hysparse::faulty {

class ForwardingBackend : public Backend {
 public:
  explicit ForwardingBackend(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}

  DType compute_dtype() const override { return inner_->compute_dtype(); }
  std::string Describe() const override { return inner_->Describe(); }
  absl::StatusOr<std::shared_ptr<std::byte>> Allocate(size_t bytes) override { return inner_->Allocate(bytes); }
  absl::StatusOr<std::shared_ptr<std::byte>> AllocateHost(size_t bytes) override { return inner_->AllocateHost(bytes); }
  absl::StatusOr<std::unique_ptr<PackedMatrix>> Pack(std::span<const MatrixSource> sources) override {
    return inner_->Pack(sources);
  }
  size_t WorkspaceBytes(const StepLimits& limits) const override { return inner_->WorkspaceBytes(limits); }
  void Upload(void* to, const void* from, size_t bytes) override { inner_->Upload(to, from, bytes); }
  void Download(void* to, const void* from, size_t bytes) override { inner_->Download(to, from, bytes); }

  void Embed(const OpContext& ctx, const EmbedParams& p) override { inner_->Embed(ctx, p); }
  void RmsNorm(const OpContext& ctx, const RmsNormParams& p) override { inner_->RmsNorm(ctx, p); }
  void Gemm(const OpContext& ctx, const GemmParams& p) override { inner_->Gemm(ctx, p); }
  void HeadNorm(const OpContext& ctx, const HeadNormParams& p) override { inner_->HeadNorm(ctx, p); }
  void Rope(const OpContext& ctx, const RopeParams& p) override { inner_->Rope(ctx, p); }
  void KvWrite(const OpContext& ctx, const KvWriteParams& p) override { inner_->KvWrite(ctx, p); }
  void DenseAttention(const OpContext& ctx, const DenseAttentionParams& p) override { inner_->DenseAttention(ctx, p); }
  void WindowAttention(const OpContext& ctx, const WindowAttentionParams& p) override {
    inner_->WindowAttention(ctx, p);
  }
  void SparseAttention(const OpContext& ctx, const SparseAttentionParams& p) override {
    inner_->SparseAttention(ctx, p);
  }
  void Gate(const OpContext& ctx, const GateParams& p) override { inner_->Gate(ctx, p); }
  void Router(const OpContext& ctx, const RouterParams& p) override { inner_->Router(ctx, p); }
  void Experts(const OpContext& ctx, const ExpertsParams& p) override { inner_->Experts(ctx, p); }
  void GatherRows(const OpContext& ctx, const GatherRowsParams& p) override { inner_->GatherRows(ctx, p); }
  void Sample(const OpContext& ctx, const SampleParams& p) override { inner_->Sample(ctx, p); }
  void Copy(const OpContext& ctx, const CopyParams& p) override { inner_->Copy(ctx, p); }
  void FinishCopies(const OpContext& ctx) override { inner_->FinishCopies(ctx); }

 private:
  std::unique_ptr<Backend> inner_;
};

}  // namespace hysparse::faulty
