#include "kernels/cpu/attention/row_tiles.h"

#include <algorithm>

namespace hysparse::cpu {
namespace {

constexpr int kTilesPerThread = 6;  // aimed at, so that the last worker does not finish late

// Keys that the tokens [begin, end) of a sequence read, about.
int64_t Keys(const Job& job, int sequence, int begin, int end) {
  const int32_t* position = job.p->batch.position;
  const int64_t seen = int64_t{position[end - 1]} + 1 - job.FirstKey(sequence, position[begin]);
  if (job.kind != AttentionKind::kSparse) return seen;
  return std::min(seen, int64_t{job.blocks->top} * job.blocks->block);
}

// Splits that the tile's rows walk through; for a sparse tile, at most.
int Splits(const Job& job, const RowTile& tile) {
  const int32_t* position = job.p->batch.position;
  const int last = position[tile.token_end - 1] / kSplitKeys;
  return last - job.FirstKey(tile.sequence, position[tile.token_begin]) / kSplitKeys + 1;
}

// Cuts the tokens [begin, end) of a sequence into tiles of `tokens` tokens, or fewer where their block maxima would not
// fit; returns the number of tiles with these.
int Cut(const Job& job, const Scratch& scratch, int sequence, int begin, int end, int tokens, int tiles) {
  while (begin < end) {
    int n = std::min(tokens, end - begin);
    if (job.selects()) {
      const int64_t blocks = job.p->batch.position[begin + n - 1] / job.blocks->block + 1;
      n = static_cast<int>(std::clamp<int64_t>(scratch.block_floats / (blocks * job.group), 1, n));
    }
    scratch.tiles[tiles++] = {sequence, begin, begin + n, 0, Keys(job, sequence, begin, begin + n) * n * job.group};
    begin += n;
  }
  return tiles;
}

}  // namespace

RowTiles CutRowTiles(const Job& job, int threads, const Scratch& scratch) {
  const RaggedBatch& batch = job.p->batch;
  const int64_t groups = job.p->kv.kv_heads;
  const int small = std::max(1, kSubRows / job.group), large = std::max(1, kTileRows / job.group);
  const int64_t wanted = int64_t{kTilesPerThread} * threads;
  const int tokens = static_cast<int>(std::clamp<int64_t>(batch.num_tokens * groups / wanted, small, large));
  int64_t total = 0;
  for (int s = 0; s < batch.num_sequences; ++s) {
    const int begin = batch.query_start[s], end = batch.query_start[s + 1];
    if (begin < end) total += Keys(job, s, begin, end) * (end - begin) * job.group * groups;
  }
  const int64_t too_long = threads == 1 ? INT64_MAX : total / (3 * threads);
  RowTiles tiles;
  for (int s = 0; s < batch.num_sequences; ++s) {
    const int begin = batch.query_start[s], end = batch.query_start[s + 1];
    if (begin >= end) continue;
    const int64_t cost = Keys(job, s, begin, end) * std::min(tokens, end - begin) * job.group;
    tiles.count = Cut(job, scratch, s, begin, end, cost > too_long ? small : tokens, tiles.count);
  }
  for (int i = 0; i < tiles.count; ++i) {
    RowTile& tile = scratch.tiles[i];
    const int splits = Splits(job, tile);
    if (tile.cost <= too_long || splits == 1) continue;
    tile.splits = splits;
    ++tiles.spread;
  }
  std::sort(scratch.tiles, scratch.tiles + tiles.count, [](const RowTile& a, const RowTile& b) {
    if ((a.splits > 0) != (b.splits > 0)) return a.splits > 0;
    return a.cost > b.cost;
  });
  return tiles;
}

}  // namespace hysparse::cpu
