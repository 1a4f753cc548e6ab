// The oracle's choice of blocks (spec section 2): the `top` highest scores of one (token, KV group), ties to the lower
// block. Any thread; allocates nothing.
#pragma once

#include <cstdint>

namespace hysparse::cpu {

// Writes the chosen ids ascending, then -1 up to `top`, and returns how many there are: min(top, blocks). `rank` is
// scratch for `blocks` entries. -inf is the lowest score; a NaN has some fixed place in the order.
int SelectBlocks(const float* score, int blocks, int top, uint64_t* rank, int32_t* ids);

}  // namespace hysparse::cpu
