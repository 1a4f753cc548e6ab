#include "kernels/cpu/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <chrono>

namespace hysparse::cpu {
namespace {

constexpr uint64_t kOpen = uint64_t{1} << 31;
constexpr uint64_t kInside = kOpen - 1;
constexpr auto kSpin = std::chrono::microseconds(50);

void Pause() { __builtin_ia32_pause(); }

}  // namespace

ThreadPool::ThreadPool(int threads) : size_(std::max(threads, 1)) {
  workers_.reserve(size_ - 1);
  for (int i = 1; i < size_; ++i) workers_.emplace_back([this, i] { WorkerLoop(i); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::ParallelFor(int64_t n, absl::FunctionRef<void(int64_t, int)> fn) {
  if (size_ == 1 || n <= 1) {
    for (int64_t i = 0; i < n; ++i) fn(i, 0);
    return;
  }
  fn_ = &fn;
  n_ = n;
  next_.store(0, std::memory_order_relaxed);
  const uint32_t loop = epoch_.load(std::memory_order_relaxed) + 1;
  gate_.store(uint64_t{loop} << 32 | kOpen, std::memory_order_release);
  epoch_.store(loop, std::memory_order_release);
  epoch_.notify_all();
  RunIndices(0);
  gate_.fetch_and(~kOpen, std::memory_order_acq_rel);
  for (int tries = 0; (gate_.load(std::memory_order_acquire) & kInside) != 0; ++tries) {
    // A worker may have lost its core to another process.
    tries < 2000 ? Pause() : static_cast<void>(sched_yield());
  }
}

void ThreadPool::RunIndices(int worker) {
  const int64_t n = n_;
  const auto& fn = *fn_;
  for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < n;) fn(i, worker);
}

// Returns the number of a loop other than `seen`, once there is one.
uint32_t ThreadPool::AwaitLoop(uint32_t seen) {
  const auto start = std::chrono::steady_clock::now();
  for (int tries = 0;; ++tries) {
    const uint32_t epoch = epoch_.load(std::memory_order_acquire);
    if (epoch != seen) return epoch;
    Pause();
    if (tries % 64 == 63 && std::chrono::steady_clock::now() - start > kSpin) {
      epoch_.wait(seen, std::memory_order_acquire);
    }
  }
}

void ThreadPool::WorkerLoop(int worker) {
  for (uint32_t seen = 0;;) {
    seen = AwaitLoop(seen);
    if (stop_.load(std::memory_order_relaxed)) return;
    uint64_t gate = gate_.load(std::memory_order_acquire);
    while ((gate & kOpen) != 0) {
      if (!gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
      // The loop entered may already be a later one than the one that woke us.
      seen = static_cast<uint32_t>(gate >> 32);
      RunIndices(worker);
      gate_.fetch_sub(1, std::memory_order_release);
      break;
    }
  }
}

}  // namespace hysparse::cpu
