// The attention ops of the CPU backend (spec sections 2 and 3): KV write, dense causal attention with block selection,
// sliding-window attention, and attention over the selected blocks. Called by one thread per backend; the pool's
// workers do the work. Shapes and layouts are those of kernels/params.h; nothing is allocated, scratch comes from the
// context's workspace. No op can fail: a workspace smaller than AttentionWorkspaceBytes says is a bug and aborts.
//
// One row is one (token, query head). A row's result and its selected blocks are the same bits whatever else the batch
// holds, however the prompt was chunked and however many threads there are:
//   - a sequence's keys are cut at absolute positions into splits of 512 and tiles of 64;
//   - within a split a row has one maximum, one sum in 16 lanes (key position mod 16) and one accumulation of P·V in
//     ascending key order; splits are folded into the row one by one, in ascending order;
//   - a masked key adds an exact zero, so tiles that a neighbouring row brought in change nothing.
// The pages' dtype decides the arithmetic: f32 pages are read with fp32 products, bf16 pages with bf16 products (q and
// the probabilities rounded to bf16) where the processor has them, else widened to fp32. Softmax is always fp32.
#pragma once

#include <cstddef>

#include "kernels/cpu/cpu_features.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/ops.h"
#include "kernels/params.h"

namespace hysparse::cpu {

// Scratch that the attention ops need for any step within `limits` on `threads` threads.
size_t AttentionWorkspaceBytes(int threads, const StepLimits& limits);

// Scatters the step's K and V rows into their pages, converted to the pages' dtype; v times v_scale.
void KvWrite(ThreadPool& pool, const KvWriteParams& p);

void DenseAttention(ThreadPool& pool, CpuIsa isa, const OpContext& ctx, const DenseAttentionParams& p);
void WindowAttention(ThreadPool& pool, CpuIsa isa, const OpContext& ctx, const WindowAttentionParams& p);
void SparseAttention(ThreadPool& pool, CpuIsa isa, const OpContext& ctx, const SparseAttentionParams& p);

}  // namespace hysparse::cpu
