#include "kernels/cpu/cpu_backend.h"

#include <algorithm>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/result.h"
#include "kernels/cpu/attention/attention.h"
#include "kernels/cpu/memory.h"
#include "kernels/cpu/sample.h"

namespace hysparse::cpu {

CpuBackend::CpuBackend(DType compute_dtype, int threads, CpuIsa isa)
    : compute_(compute_dtype),
      isa_(isa),
      pool_(threads),
      gemm_(pool_, isa, compute_dtype),
      machine_{pool_, RowOpsFor(isa)} {}

std::string CpuBackend::Describe() const {
  return absl::StrCat("cpu, ", pool_.size(), pool_.size() == 1 ? " thread, " : " threads, ", Name(isa_));
}

absl::StatusOr<std::shared_ptr<std::byte>> CpuBackend::Allocate(size_t bytes) { return AllocateZeroed(bytes); }

absl::StatusOr<std::shared_ptr<std::byte>> CpuBackend::AllocateHost(size_t bytes) { return AllocateZeroed(bytes); }

absl::StatusOr<std::unique_ptr<PackedMatrix>> CpuBackend::Pack(std::span<const MatrixSource> sources) {
  return gemm_.Pack(sources);
}

size_t CpuBackend::WorkspaceBytes(const StepLimits& limits) const {
  return std::max({AttentionWorkspaceBytes(pool_.size(), limits), SampleWorkspaceBytes(pool_.size(), limits),
                   ExpertsWorkspaceBytes(limits, compute_), RouterWorkspaceBytes()});
}

void CpuBackend::Upload(void* device, const void* host, size_t bytes) { std::memcpy(device, host, bytes); }
void CpuBackend::Download(void* host, const void* device, size_t bytes) { std::memcpy(host, device, bytes); }

void CpuBackend::Embed(const OpContext&, const EmbedParams& p) { cpu::Embed(machine_, p); }
void CpuBackend::RmsNorm(const OpContext&, const RmsNormParams& p) { cpu::RmsNorm(machine_, p); }
void CpuBackend::Gemm(const OpContext&, const GemmParams& p) { gemm_.Run(p); }
void CpuBackend::HeadNorm(const OpContext&, const HeadNormParams& p) { cpu::HeadNorm(machine_, p); }
void CpuBackend::Rope(const OpContext&, const RopeParams& p) { cpu::Rope(machine_, p); }
void CpuBackend::KvWrite(const OpContext&, const KvWriteParams& p) { cpu::KvWrite(pool_, p); }
void CpuBackend::DenseAttention(const OpContext& ctx, const DenseAttentionParams& p) {
  cpu::DenseAttention(pool_, isa_, ctx, p);
}
void CpuBackend::WindowAttention(const OpContext& ctx, const WindowAttentionParams& p) {
  cpu::WindowAttention(pool_, isa_, ctx, p);
}
void CpuBackend::SparseAttention(const OpContext& ctx, const SparseAttentionParams& p) {
  cpu::SparseAttention(pool_, isa_, ctx, p);
}
void CpuBackend::Gate(const OpContext&, const GateParams& p) { cpu::Gate(machine_, p); }
void CpuBackend::Router(const OpContext& ctx, const RouterParams& p) { cpu::Router(machine_, ctx, p); }
void CpuBackend::Experts(const OpContext& ctx, const ExpertsParams& p) {
  cpu::Experts(machine_, gemm_, compute_, ctx, p);
}
void CpuBackend::GatherRows(const OpContext&, const GatherRowsParams& p) { cpu::GatherRows(machine_, p); }
void CpuBackend::Sample(const OpContext& ctx, const SampleParams& p) { cpu::Sample(pool_, ctx, p); }
void CpuBackend::Copy(const OpContext&, const CopyParams& p) { cpu::Copy(machine_, p); }
void CpuBackend::FinishCopies(const OpContext&) {}  // every copy is done when it returns

}  // namespace hysparse::cpu

namespace hysparse {

absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(const CpuOptions& options) {
  if (options.compute_dtype == DType::kF16) {
    return absl::InvalidArgumentError("the CPU backend computes in float32 or bfloat16, not float16");
  }
  HYSPARSE_ASSIGN_OR_RETURN(const cpu::CpuIsa isa, cpu::DetectCpuIsa());
  const int threads = options.threads > 0 ? options.threads : cpu::AvailableCores();
  return std::make_unique<cpu::CpuBackend>(options.compute_dtype, threads, isa);
}

}  // namespace hysparse
