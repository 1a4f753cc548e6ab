#include "kernels/cpu/attention/attention.h"

#include <algorithm>

#include "kernels/cpu/attention/job.h"
#include "kernels/cpu/attention/run_attention.h"

namespace hysparse::cpu {
namespace {

const MicroKernels& KernelsFor(CpuIsa isa, DType pages) {
  const bool bf16 = pages == DType::kBF16;
  if (isa == CpuIsa::kAvx2) return Avx2Kernels(bf16);
  if (isa == CpuIsa::kAvx512 || !bf16) return Avx512Kernels(bf16);
  return isa == CpuIsa::kAmx ? AmxKernels() : Avx512Bf16Kernels();
}

}  // namespace

size_t AttentionWorkspaceBytes(int threads, const StepLimits& limits) {
  ScratchShape shape;
  shape.threads = std::max(threads, 1);
  shape.tokens = limits.max_tokens;
  shape.group = std::max(1, limits.max_heads / std::max(1, limits.kv_heads_min));
  shape.qk_dim = limits.max_qk_dim;
  shape.v_dim = limits.max_v_dim;
  shape.context = limits.max_context;
  shape.block = std::max(1, limits.min_block);
  return static_cast<size_t>(LayOut(nullptr, shape).bytes) + 64;
}

void DenseAttention(ThreadPool& pool, CpuIsa isa, const OpContext& ctx, const DenseAttentionParams& p) {
  RunAttention(pool, KernelsFor(isa, p.kv.dtype), ctx, p, AttentionKind::kDense, 0, p.select);
}

void WindowAttention(ThreadPool& pool, CpuIsa isa, const OpContext& ctx, const WindowAttentionParams& p) {
  RunAttention(pool, KernelsFor(isa, p.kv.dtype), ctx, p, AttentionKind::kWindow, p.window, nullptr, p.first_key);
}

void SparseAttention(ThreadPool& pool, CpuIsa isa, const OpContext& ctx, const SparseAttentionParams& p) {
  RunAttention(pool, KernelsFor(isa, p.kv.dtype), ctx, p, AttentionKind::kSparse, 0, &p.selected);
}

}  // namespace hysparse::cpu
