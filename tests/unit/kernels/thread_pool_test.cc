#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace hysparse::cpu {
namespace {

TEST(ThreadPool, CallsEveryIndexOnce) {
  for (int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.size(), threads);
    for (int64_t n : {0, 1, 2, 3, 7, 64, 1000}) {
      std::vector<int> calls(n);
      pool.ParallelFor(n, [&](int64_t i, int worker) {
        EXPECT_GE(worker, 0);
        EXPECT_LT(worker, threads);
        ++calls[i];
      });
      EXPECT_EQ(calls, std::vector<int>(n, 1)) << threads << " threads, n " << n;
    }
  }
}

TEST(ThreadPool, WorkersNeverShareAnIdentity) {
  ThreadPool pool(4);
  std::vector<int> inside(4), calls(4);  // plain ints: ThreadSanitizer reports two threads under one identity
  for (int round = 0; round < 200; ++round) {
    pool.ParallelFor(16, [&](int64_t, int worker) {
      EXPECT_EQ(++inside[worker], 1);
      ++calls[worker];
      --inside[worker];
    });
  }
  EXPECT_EQ(calls[0] + calls[1] + calls[2] + calls[3], 200 * 16);
}

// Loops follow one another through memory that they share, with and without the workers having gone to sleep.
TEST(ThreadPool, WritesAreVisibleToTheCallerAndToTheNextLoop) {
  ThreadPool pool(3);
  std::vector<int64_t> value(257);
  for (int round = 0; round < 3000; ++round) {
    if (round % 1000 == 500) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    pool.ParallelFor(257, [&](int64_t i, int) { value[(i + round) % 257] += 1; });
    ASSERT_EQ(value[round % 257], round + 1);
  }
  EXPECT_EQ(value, std::vector<int64_t>(257, 3000));
}

TEST(ThreadPool, OtherWorkersTakePart) {
  ThreadPool pool(2);
  std::atomic<bool> other{false};
  // Index 0 returns only when somebody else has run index 1.
  pool.ParallelFor(2, [&](int64_t i, int) {
    if (i == 1) other = true;
    while (!other) std::this_thread::yield();
  });
  EXPECT_TRUE(other);
}

TEST(ThreadPool, StartsAndStopsIdle) {
  for (int i = 0; i < 50; ++i) ThreadPool pool(4);
}

}  // namespace
}  // namespace hysparse::cpu
