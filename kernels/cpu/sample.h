// Sampling and log probabilities of logit rows on the CPU. Called from the backend's thread; rows are shared out over
// the pool, one thread a row, so that a row's result depends on nothing but the row.
//
// Order of what shapes a draw (vLLM's and transformers'): repetition, presence and frequency penalties, logit_bias,
// banned ids, temperature, top_k, top_p, min_p.
//   repetition r  tokens of prompt or output: l > 0 ? l / r : l * r      presence  -= p if the output holds the token
//   frequency     -= f * occurrences in the output                       bias      += b
//   top_k         the k highest; 0 or >= V: all
//   top_p         the smallest set of highest tokens whose share of what top_k left is >= top_p; >= 1: all
//   min_p         tokens whose probability is >= min_p * that of the likeliest
// Ties rank by the lower id everywhere. Temperature below 1e-5 is greedy. The draw walks the kept tokens in ascending
// id with u = 53 bits of Philox4x32-10(key = seed, counter = {position, choice, 0, 0}): one number per (seed, choice,
// position), so that batching, chunking and preemption cannot change the stream.
//
// Logprobs are the log-softmax of the raw logits; the top ones rank by raw logit. They are written where asked for:
// logprob when want_logprob or num_top_logprobs > 0, and num_top_logprobs entries (-1 and -inf where fewer logits are
// finite).
//
// A row that cannot be sampled (a NaN or +inf logit, no finite logit, every token banned, a target outside [0, V))
// yields token -1 and logprob NaN: the caller fails that sequence. -inf logits are legal: never drawn. Ids outside
// [0, V) in bias, history and banned are skipped.
#pragma once

#include <cstddef>

#include "kernels/cpu/thread_pool.h"
#include "kernels/ops.h"

namespace hysparse::cpu {

void Sample(ThreadPool& pool, const OpContext& ctx, const SampleParams& p);

// Workspace that Sample needs with a pool of `threads` threads.
size_t SampleWorkspaceBytes(int threads, const StepLimits& limits);

}  // namespace hysparse::cpu
