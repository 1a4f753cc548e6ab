// What this machine can do at most, for `hysparse bench`: kernels are quoted as fractions of these, measured in the
// same run. Called from the thread that owns the pool; takes seconds and allocates.
#pragma once

#include "absl/status/statusor.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/dtype.h"

namespace hysparse::cpu {

// Bytes per second that all threads together read from a buffer of twice the last-level cache (or a quarter of the free
// memory, where that is less): the best of several passes.
absl::StatusOr<double> MeasureReadBandwidth(ThreadPool& pool);

// FLOP/s of oneDNN's best matrix product [m, k] · [n, k]ᵀ of `dtype` into f32 on random data, all threads working on
// rows of their own with packed weights in whatever layout oneDNN prefers; the best of several passes, and of the
// splits of the rows that oneDNN might prefer. Unimplemented where oneDNN has no such product (bf16 without AVX-512).
absl::StatusOr<double> MeasureGemmRate(ThreadPool& pool, DType dtype, int m, int n, int k);

}  // namespace hysparse::cpu
