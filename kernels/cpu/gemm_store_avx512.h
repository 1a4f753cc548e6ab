// Storing up to 16 finished outputs of a row, for the AVX-512 and AMX micro-kernels. Included by their sources only.
#pragma once

#include "kernels/cpu/gemm_kernels.h"
#include "kernels/cpu/vec_avx512.h"

namespace hysparse::cpu {
namespace {

// Columns [col, col + 16) of the task's row `row`; those beyond task.cols are dropped.
inline void Store16(const GemmTask& task, int row, int col, Vec value) {
  const int valid = task.cols - col;
  if (valid <= 0) return;
  const int n = valid < kLanes ? valid : kLanes;
  if (task.bias != nullptr) value = Add(value, Load(task.bias + col, n));
  const int64_t at = row * task.out_stride + col;
  if (task.out_bf16) {
    StoreBf16(static_cast<uint16_t*>(task.out) + at, n, value);
  } else {
    Store(static_cast<float*>(task.out) + at, n, value);
  }
}

}  // namespace
}  // namespace hysparse::cpu
