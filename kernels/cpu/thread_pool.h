// ThreadPool: fork and join for the ops of one backend. Owned and called by one thread (the rank's), which is worker 0
// of every loop; the other workers belong to the pool. Workers spin for some microseconds after a loop, because the
// next op usually follows at once, and then sleep. A loop is over when its indices are done: it never waits for a
// worker that is still waking up. Example:
//
//   pool.ParallelFor(rows, [&](int64_t row, int worker) { Norm(row, scratch[worker]); });
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace hysparse::cpu {

class ThreadPool {
 public:
  // `threads` workers, the caller included; below 1 counts as 1.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return size_; }

  // Calls fn(index, worker) once for each index in [0, n), in any order, and returns when all calls have returned;
  // their writes are visible to the caller. Indices are handed out one at a time, in ascending order. `fn` must not
  // throw and must not call ParallelFor.
  void ParallelFor(int64_t n, absl::FunctionRef<void(int64_t index, int worker)> fn);

 private:
  void WorkerLoop(int worker);
  uint32_t AwaitLoop(uint32_t seen);
  void RunIndices(int worker);

  const int size_;
  // Of the current loop; written before `gate_` opens, read only by those who entered it.
  const absl::FunctionRef<void(int64_t, int)>* fn_ = nullptr;
  int64_t n_ = 0;
  alignas(64) std::atomic<int64_t> next_{0};
  // Low half: kOpen while the loop takes workers, plus the number of workers inside. High half: the loop's number.
  alignas(64) std::atomic<uint64_t> gate_{0};
  alignas(64) std::atomic<uint32_t> epoch_{0};  // the loop's number again: what sleeping workers wait on
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace hysparse::cpu
