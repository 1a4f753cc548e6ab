// Gathers the keys and values of one split from their pages into panels, tile by tile. Belongs to one worker.
#pragma once

#include "kernels/cpu/attention/job.h"

namespace hysparse::cpu {

class TilePacker {
 public:
  // `keep`: a tile is packed once and stays, because several sub-tiles of rows use it; else a tile stays until the
  // second one after it, so that little cache is used.
  TilePacker(const Job& job, const RowTile& tile, int group, int64_t split_start, Worker& worker, bool keep);

  bool keep() const { return keep_; }

  // The tile's panels. `tiles`: all tiles of the split that are in use; the one after this is fetched meanwhile.
  const std::byte* Keys(int tile, uint32_t tiles);
  const std::byte* Values(int tile, uint32_t tiles);

 private:
  // Where the tile's rows of K or V (at `offset` in a page) lie. Rows that no token of the row tile may see, because
  // they are not written yet or were given back, are zeros: their pages may hold anything or be gone.
  void FillRows(int tile, int64_t offset, int dim, const void** rows) const;
  int Slot(int tile) { return keep_ ? tile : turn_ ^= 1; }

  const Job& job_;
  const PagedKv& kv_;
  const int group_;
  const int64_t table_offset_;  // of the sequence
  const int64_t start_;
  Worker& worker_;
  const bool keep_;
  int64_t begin_, end_;  // keys that some token of the row tile may see
  uint32_t packed_keys_ = 0, packed_values_ = 0;
  int turn_ = 0;
};

}  // namespace hysparse::cpu
