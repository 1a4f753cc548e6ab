// Which keys a token sees, split by split. Any thread.
#pragma once

#include <cstdint>

#include "kernels/cpu/attention/job.h"

namespace hysparse::cpu {

// Splits of a row tile in ascending order, with the masks of its tokens. Writes the worker's `mask` and `cursor`.
class SplitWalk {
 public:
  SplitWalk(const Job& job, const RowTile& tile, int group, Worker& worker);

  // Goes to the next split that some token of the tile sees; false when there is none.
  bool Next();
  int split() const { return split_; }
  // Fills mask[i] for each token of the tile with what it sees of the current split.
  void FillMasks();

 private:
  // Sparse: the blocks of token i of the tile.
  const int32_t* Ids(int i) const;
  int Count(int i) const;
  int Position(int i) const { return job_.p->batch.position[tile_.token_begin + i]; }

  const Job& job_;
  const RowTile& tile_;
  const int group_;
  Worker& worker_;
  const int tokens_;
  int split_ = -1;
  int last_ = -1;  // dense, window: the last split
};

}  // namespace hysparse::cpu
