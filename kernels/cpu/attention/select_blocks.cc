#include "kernels/cpu/attention/select_blocks.h"

#include <algorithm>
#include <bit>

namespace hysparse::cpu {
namespace {

// Orders as the floats do, with -0 equal to +0.
uint32_t OrderedBits(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

}  // namespace

int SelectBlocks(const float* score, int blocks, int top, uint64_t* rank, int32_t* ids) {
  const int count = std::min(top, blocks);
  if (blocks <= top) {
    for (int b = 0; b < blocks; ++b) ids[b] = b;
  } else {
    // Ascending rank is descending score, then ascending block.
    for (int b = 0; b < blocks; ++b) rank[b] = uint64_t{~OrderedBits(score[b])} << 32 | static_cast<uint32_t>(b);
    std::nth_element(rank, rank + count, rank + blocks);
    for (int i = 0; i < count; ++i) ids[i] = static_cast<int32_t>(static_cast<uint32_t>(rank[i]));
    std::sort(ids, ids + count);
  }
  std::fill(ids + count, ids + top, -1);
  return count;
}

}  // namespace hysparse::cpu
