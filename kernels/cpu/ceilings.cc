#include "kernels/cpu/ceilings.h"

#include <emmintrin.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "engine/base/clock.h"
#include "engine/base/result.h"
#include "kernels/cpu/memory.h"

namespace hysparse::cpu {
namespace {

constexpr int64_t kBlock = int64_t{1} << 20;
constexpr int kPasses = 3;

// Twice the last-level cache, at least 512 MiB; no more than a quarter of the free memory.
int64_t BeyondCaches() {
  const int64_t cache = std::max<int64_t>(sysconf(_SC_LEVEL3_CACHE_SIZE), 0);
  const int64_t free = int64_t{sysconf(_SC_AVPHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  const int64_t wanted = std::max(2 * cache, int64_t{512} << 20);
  return std::max(std::min(wanted, free / 4) / kBlock, int64_t{16}) * kBlock;
}

// Reads a block, with software prefetch `ahead` bytes ahead (0: none) into L1 or L2. The sum keeps the reads alive.
template <_mm_hint kInto>
int64_t ReadBlock(const std::byte* block, int ahead) {
  __m128i sums[4] = {_mm_setzero_si128(), _mm_setzero_si128(), _mm_setzero_si128(), _mm_setzero_si128()};
  for (int64_t i = 0; i < kBlock; i += 64) {
    if (ahead > 0) _mm_prefetch(reinterpret_cast<const char*>(block) + i + ahead, kInto);
    for (int j = 0; j < 4; ++j) {
      sums[j] = _mm_add_epi64(sums[j], _mm_load_si128(reinterpret_cast<const __m128i*>(block + i + 16 * j)));
    }
  }
  return _mm_cvtsi128_si64(_mm_add_epi64(_mm_add_epi64(sums[0], sums[1]), _mm_add_epi64(sums[2], sums[3])));
}

}  // namespace

absl::StatusOr<double> MeasureReadBandwidth(ThreadPool& pool) {
  const int64_t bytes = BeyondCaches();
  HYSPARSE_ASSIGN_OR_RETURN(const auto buffer, AllocateZeroed(bytes));
  const int64_t blocks = bytes / kBlock;
  // Pages that were never written all read the same page of zeros.
  pool.ParallelFor(blocks,
                   [&](int64_t i, int) { std::memset(buffer.get() + i * kBlock, static_cast<int>(i), kBlock); });
  std::vector<int64_t> sums(blocks);
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    for (const int ahead : {0, 2048, 4096, 8192}) {
      for (const auto read : {ReadBlock<_MM_HINT_T0>, ReadBlock<_MM_HINT_T1>}) {
        const auto start = Clock::now();
        pool.ParallelFor(blocks, [&](int64_t i, int) { sums[i] += read(buffer.get() + i * kBlock, ahead); });
        best = std::max(best, static_cast<double>(bytes) / SecondsSince(start));
      }
    }
  }
  volatile int64_t keep = 0;
  for (int64_t sum : sums) keep = keep + sum;
  return best;
}

}  // namespace hysparse::cpu
