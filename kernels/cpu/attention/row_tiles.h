// Cuts a step into row tiles, the most expensive first. Called by the op's thread; allocates nothing.
#pragma once

#include "kernels/cpu/attention/job.h"

namespace hysparse::cpu {

struct RowTiles {
  int spread = 0;  // tiles [0, spread) are cut into splits too, because one worker would need too long for them
  int count = 0;
};

RowTiles CutRowTiles(const Job& job, int threads, const Scratch& scratch);

}  // namespace hysparse::cpu
