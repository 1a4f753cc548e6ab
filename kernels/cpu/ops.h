// The CPU backend's ops apart from matrix products (gemm.h), attention (attention/attention.h) and sampling (sample.h),
// as functions of the backend's threads and tables. Called from the backend's thread. Parameters, shapes and the
// meaning of each op: kernels/params.h. Rows are shared out over the pool where there is enough work to pay for it; a
// row's result depends on that row alone.
#pragma once

#include <cstddef>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/row_ops.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/ops.h"

namespace hysparse::cpu {

// What every op needs: the pool, and the loops of the processor's instruction set.
struct Machine {
  ThreadPool& pool;
  const RowOps& rows;
};

const RowOps& RowOpsFor(CpuIsa isa);

void Embed(const Machine& machine, const EmbedParams& p);
void RmsNorm(const Machine& machine, const RmsNormParams& p);
void HeadNorm(const Machine& machine, const HeadNormParams& p);
void Rope(const Machine& machine, const RopeParams& p);
void Gate(const Machine& machine, const GateParams& p);
void GatherRows(const Machine& machine, const GatherRowsParams& p);
void Copy(const Machine& machine, const CopyParams& p);

// Logits go to the workspace: RouterWorkspaceBytes() at least.
void Router(const Machine& machine, const OpContext& ctx, const RouterParams& p);
size_t RouterWorkspaceBytes();

// Rows are grouped by expert, so that each expert's weights are read once per pass over at most kExpertSlots rows.
void Experts(const Machine& machine, GemmEngine& gemm, DType compute, const OpContext& ctx, const ExpertsParams& p);
size_t ExpertsWorkspaceBytes(const StepLimits& limits, DType compute);

}  // namespace hysparse::cpu
