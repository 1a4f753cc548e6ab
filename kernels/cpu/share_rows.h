// Sharing rows out over the pool: small loops stay on the calling thread, large ones go in items of a few microseconds.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/thread_pool.h"

namespace hysparse::cpu {

constexpr double kForkNs = 6000;  // below this a loop ends sooner on one thread
constexpr double kItemNs = 3000;
constexpr double kCopyNs = 0.15;  // one element copied or converted

// Calls fn(row) for each row; `row_ns` is a guess at one row's nanoseconds.
template <typename Fn>
void ShareRows(ThreadPool& pool, int64_t rows, double row_ns, const Fn& fn) {
  if (pool.size() == 1 || static_cast<double>(rows) * row_ns < kForkNs) {
    for (int64_t row = 0; row < rows; ++row) fn(row);
    return;
  }
  const auto chunk = static_cast<int64_t>(kItemNs / std::max(row_ns, 1.0)) + 1;
  pool.ParallelFor((rows + chunk - 1) / chunk, [&](int64_t item, int) {
    const int64_t end = std::min(rows, (item + 1) * chunk);
    for (int64_t row = item * chunk; row < end; ++row) fn(row);
  });
}

}  // namespace hysparse::cpu
