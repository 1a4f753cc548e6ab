// The driver that all attention ops share: cuts the step into row tiles, hands them to the pool's workers, and for the
// few long ones (decodes on several threads) hands out single splits and folds them afterwards. Called by the op's
// thread; the micro-kernels are a parameter, so that tests can run every instruction set.
#pragma once

#include "kernels/cpu/attention/job.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/ops.h"

namespace hysparse::cpu {

// `blocks`: dense: what to select, or null; sparse: what was selected. `first_key`: as in WindowAttentionParams.
void RunAttention(ThreadPool& pool, const MicroKernels& kernels, const OpContext& ctx, const AttentionParams& p,
                  AttentionKind kind, int window, const BlockSelection* blocks, const int32_t* first_key = nullptr);

}  // namespace hysparse::cpu
