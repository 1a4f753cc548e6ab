#include "kernels/cpu/attention/tile_pass.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/attention/select_blocks.h"

namespace hysparse::cpu {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr float kLog2E = 1.4426950408889634f;

// The pages of one tile's keys, gathered into panels.
class TilePacker {
 public:
  TilePacker(const Job& job, const RowTile& tile, int group, int64_t split_start, Worker& worker, bool keep)
      : job_(job),
        kv_(job.p->kv),
        group_(group),
        sequence_(tile.sequence),
        start_(split_start),
        worker_(worker),
        keep_(keep) {
    const int32_t* position = job.p->batch.position;
    begin_ = job.FirstKey(position[tile.token_begin]);
    end_ = int64_t{position[tile.token_end - 1]} + 1;
  }

  // Whether several tiles stay packed at once; else each takes the place of the one before.
  bool keep() const { return keep_; }

  // The tile's panels of K or V. The tile of `next` is fetched meanwhile: of the same kind, or V's after the last of K.
  const std::byte* Keys(int tile, uint32_t tiles_after, int first_tile) {
    std::byte* to = worker_.keys + int64_t{keep_ ? tile : 0} * kTileKeys * job_.units * 4;
    if (!keep_ || !(packed_keys_ >> tile & 1)) {
      FillRows(tile, 0, kv_.qk_dim, worker_.rows);
      if (tiles_after != 0) {
        FillRows(std::countr_zero(tiles_after), 0, kv_.qk_dim, worker_.next);
      } else {
        FillRows(first_tile, kv_.v_offset, kv_.v_dim, worker_.next);
      }
      job_.kernels->pack_keys(worker_.rows, worker_.next, kv_.qk_dim, job_.units, to);
      packed_keys_ |= 1u << tile;
    }
    return to;
  }

  const std::byte* Values(int tile, uint32_t tiles_after) {
    std::byte* to = worker_.values + int64_t{keep_ ? tile : 0} * job_.UnitsOfKeys(kTileKeys) * kLanes * 4;
    if (!keep_ || !(packed_values_ >> tile & 1)) {
      FillRows(tile, kv_.v_offset, kv_.v_dim, worker_.rows);
      FillRows(tiles_after != 0 ? std::countr_zero(tiles_after) : tile, kv_.v_offset, kv_.v_dim, worker_.next);
      job_.kernels->pack_values(worker_.rows, worker_.next, kv_.v_dim, to);
      packed_values_ |= 1u << tile;
    }
    return to;
  }

 private:
  // Where the tile's rows of K or V lie. Rows that no token of this row tile may see (not written yet, or
  // given back already) are zeros: their pages may hold anything or be gone.
  void FillRows(int tile, int64_t offset, int dim, const void** rows) const {
    const int64_t tile_start = start_ + tile * kTileKeys;
    const int64_t begin = std::max(begin_, tile_start), end = std::min(end_, tile_start + kTileKeys);
    const int64_t row_bytes = static_cast<int64_t>(dim) * static_cast<int64_t>(SizeOf(kv_.dtype));
    std::fill_n(rows, begin - tile_start, worker_.zeros);
    for (int64_t key = begin; key < end;) {
      const int64_t page = key / kv_.page_tokens, slot = key % kv_.page_tokens;
      const int64_t column = page - (kv_.first_page != nullptr ? kv_.first_page[sequence_] : 0);
      const int64_t id = kv_.block_table[int64_t{sequence_} * kv_.table_stride + column];
      const std::byte* at =
          kv_.base + id * kv_.page_stride + offset + (int64_t{group_} * kv_.page_tokens + slot) * row_bytes;
      const int64_t stop = std::min(end, (page + 1) * kv_.page_tokens);
      for (; key < stop; ++key, at += row_bytes) rows[key - tile_start] = at;
    }
    std::fill_n(rows + (end - tile_start), tile_start + kTileKeys - end, worker_.zeros);
  }

  const Job& job_;
  const PagedKv& kv_;
  const int group_;
  const int sequence_;
  const int64_t start_;
  Worker& worker_;
  const bool keep_;
  int64_t begin_, end_;  // keys that some token of the row tile may see
  uint32_t packed_keys_ = 0, packed_values_ = 0;
};

// The bits above bit t.
uint32_t Above(uint32_t tiles, int t) { return tiles >> t >> 1 << t << 1; }

// Calls fn(first tile, tiles) for each run of adjacent bits, or for each bit where only one tile is kept.
template <class F>
void ForEachRun(uint32_t tiles, bool whole_runs, F fn) {
  while (tiles != 0) {
    const int first = std::countr_zero(tiles);
    const int count = whole_runs ? std::countr_one(tiles >> first) : 1;
    fn(first, count);
    tiles &= ~(((1u << count) - 1) << first);
  }
}

// S = Q·K of some rows, for the vectors of 16 keys in the bit set.
void Scores(const Job& job, TilePacker& packer, const std::byte* query, int rows, uint32_t tiles, uint32_t vectors,
            float* scores) {
  const int64_t panel = int64_t{job.units} * kLanes;
  ForEachRun(tiles, packer.keep(), [&](int first, int count) {
    const std::byte* keys = nullptr;
    for (int t = 0; t < count; ++t) {
      const std::byte* at = packer.Keys(first + t, Above(tiles, first + t), std::countr_zero(tiles));
      if (t == 0) keys = at;
    }
    const uint32_t needed = vectors >> (first * kTileVectors);
    const int limit = count * kTileVectors;
    const int begin = std::min(std::countr_zero(needed), limit);
    const int end = limit == 32 ? 32 - std::countl_zero(needed) : 32 - std::countl_zero(needed & ((1u << limit) - 1));
    job.kernels->multiply(query, job.units, rows, keys + begin * panel * 4, panel, end - begin, job.units,
                          scores + first * kTileKeys + begin * kLanes, kScoreStride, false);
  });
}

// O = P·V of the same rows.
void WeightedValues(const Job& job, TilePacker& packer, const float* scores, int rows, uint32_t tiles, uint32_t vectors,
                    float* out) {
  bool accumulate = false;
  ForEachRun(tiles, packer.keep(), [&](int first, int count) {
    const std::byte* values = nullptr;
    for (int t = 0; t < count; ++t) {
      const std::byte* at = packer.Values(first + t, Above(tiles, first + t));
      if (t == 0) values = at;
    }
    // Whole tiles, but for the keys above the last one in sight, in steps of 32.
    const uint32_t needed = vectors >> (first * kTileVectors) << (32 - count * kTileVectors);
    const int used = count * kTileVectors - std::countl_zero(needed);
    const int keys = static_cast<int>(RoundUp(used, 2)) * kLanes;
    job.kernels->multiply(scores + job.UnitsOfKeys(first * kTileKeys), kScoreStride, rows, values, kValueStride,
                          job.value_cols / kLanes, job.UnitsOfKeys(keys), out, job.value_cols, accumulate);
    accumulate = true;
  });
}

// The highest score of a row, and of each block, for blocks that do not consist of whole vectors.
float MaxRowByKey(const float* scores, const KeyMask& mask, int64_t split_start, int block, const RowState& out,
                  float* block_max) {
  float best = kMinusInfinity;
  for (int key = 0; key < kSplitKeys; ++key) {
    if (!(mask.lane[key / kLanes] >> (key % kLanes) & 1)) continue;
    float& top = block_max[(split_start + key) / block - out.first_block];
    top = std::max(top, scores[key]);
    best = std::max(best, scores[key]);
  }
  return best;
}

}  // namespace

void PackQueries(const Job& job, const RowTile& tile, int group, Worker& worker) {
  const AttentionParams& p = *job.p;
  const int rows = (tile.token_end - tile.token_begin) * job.group;
  const int64_t row_bytes = int64_t{job.units} * 4;
  for (int r = 0; r < rows; ++r) {
    const int64_t token = tile.token_begin + r / job.group, head = group * job.group + r % job.group;
    job.kernels->pack_query(p.q + token * p.q_stride + head * p.kv.qk_dim, p.kv.qk_dim, job.units,
                            worker.query + r * row_bytes);
  }
  std::memset(worker.query + rows * row_bytes, 0, static_cast<size_t>((RoundUp(rows, 16) - rows) * row_bytes));
}

void RunSplit(const Job& job, const RowTile& tile, int group, int split, Worker& worker, const RowState& out) {
  const MicroKernels& k = *job.kernels;
  const int rows = (tile.token_end - tile.token_begin) * job.group;
  const int64_t start = int64_t{split} * kSplitKeys;
  TilePacker packer(job, tile, group, start, worker, rows > kSubRows);
  int32_t block_of_vector[kSplitVectors] = {};
  const bool whole_vectors = job.selects() && job.blocks->block % kLanes == 0;
  for (int j = 0; whole_vectors && j < kSplitVectors; ++j) {
    block_of_vector[j] = static_cast<int32_t>((start + j * kLanes) / job.blocks->block) - out.first_block;
  }
  for (int first = 0; first < rows; first += kSubRows) {
    const int sub_rows = std::min(kSubRows, rows - first);
    uint32_t tiles = 0, vectors = 0;
    for (int token = first / job.group; token <= (first + sub_rows - 1) / job.group; ++token) {
      tiles |= worker.mask[token].any;
      vectors |= worker.mask[token].vectors;
    }
    Scores(job, packer, worker.query + int64_t{first} * job.units * 4, sub_rows, tiles, vectors, worker.scores);
    for (int r = 0; r < sub_rows; ++r) {
      const KeyMask& mask = worker.mask[(first + r) / job.group];
      float* scores = worker.scores + r * kScoreStride;
      float* block_max = out.block_max + int64_t{first + r} * out.block_stride;
      const float top = whole_vectors   ? k.max_row_by_block(scores, mask, tiles, block_of_vector, block_max)
                        : job.selects() ? MaxRowByKey(scores, mask, start, job.blocks->block, out, block_max)
                                        : k.max_row(scores, mask, tiles);
      const float peak = mask.any != 0 ? top * job.log2_scale : kMinusInfinity;
      out.peak[first + r] = peak;
      out.sum[first + r] = k.exp_row(scores, mask, tiles, job.log2_scale, mask.any != 0 ? peak : 0.0f);
    }
    WeightedValues(job, packer, worker.scores, sub_rows, tiles, vectors, out.out + int64_t{first} * job.value_cols);
  }
}

void ClearState(const Job& job, int rows, const RowState& state) {
  std::fill_n(state.peak, rows, kMinusInfinity);
  if (job.selects()) std::fill_n(state.block_max, int64_t{rows} * state.block_stride, kMinusInfinity);
}

void FoldSplit(const Job& job, int rows, const RowState& split, const RowState& state) {
  for (int r = 0; r < rows; ++r) {
    const float* add = split.out + int64_t{r} * job.value_cols;
    float* out = state.out + int64_t{r} * job.value_cols;
    if (split.peak[r] == kMinusInfinity) continue;
    if (state.peak[r] == kMinusInfinity) {
      state.peak[r] = split.peak[r];
      state.sum[r] = split.sum[r];
      std::copy_n(add, job.value_cols, out);
      continue;
    }
    const float peak = std::max(state.peak[r], split.peak[r]);
    const float a = std::exp2(state.peak[r] - peak), b = std::exp2(split.peak[r] - peak);
    state.peak[r] = peak;
    state.sum[r] = state.sum[r] * a + split.sum[r] * b;
    job.kernels->fold(out, a, add, b, job.value_cols);
  }
}

namespace {

// The block scores of token i of the tile: max over its heads of block_max - lse, and the choice.
void SelectFor(const Job& job, const RowTile& tile, int group, int i, Worker& worker, const RowState& state) {
  const BlockSelection& selection = *job.blocks;
  const int token = tile.token_begin + i;
  const int blocks = job.p->batch.position[token] / selection.block + 1;
  std::fill_n(worker.score, blocks, kMinusInfinity);
  for (int r = i * job.group; r < (i + 1) * job.group; ++r) {
    // FinishTile left the row's lse, to base 2, in `peak`.
    job.kernels->max_score(worker.score, state.block_max + int64_t{r} * state.block_stride, job.log2_scale,
                           state.peak[r], blocks);
  }
  const int64_t row = int64_t{token} * job.p->kv.kv_heads + group;
  selection.counts[row] =
      SelectBlocks(worker.score, blocks, selection.top, worker.rank, selection.ids + row * selection.top);
}

}  // namespace

void FinishTile(const Job& job, const RowTile& tile, int group, Worker& worker, const RowState& state) {
  const AttentionParams& p = *job.p;
  const int tokens = tile.token_end - tile.token_begin;
  for (int r = 0; r < tokens * job.group; ++r) {
    const int64_t token = tile.token_begin + r / job.group, head = group * job.group + r % job.group;
    float weight = 1.0f;                    // of the state, next to a sink
    if (state.peak[r] == kMinusInfinity) {  // no key at all: a row of zeros
      state.sum[r] = 1.0f;
      weight = 0.0f;
      std::fill_n(state.out + int64_t{r} * job.value_cols, job.value_cols, 0.0f);
    } else if (p.sink != nullptr) {
      const float sink = p.sink[head] * kLog2E, peak = std::max(state.peak[r], sink);
      weight = std::exp2(state.peak[r] - peak);
      state.sum[r] = state.sum[r] * weight + std::exp2(sink - peak);
      state.peak[r] = peak;
    }
    std::byte* out = static_cast<std::byte*>(p.out) +
                     (token * p.heads + head) * p.kv.v_dim * static_cast<int64_t>(SizeOf(p.out_dtype));
    job.kernels->store(state.out + int64_t{r} * job.value_cols, weight / state.sum[r], p.kv.v_dim, out,
                       p.out_dtype == DType::kBF16);
    if (job.selects()) state.peak[r] += std::log2(state.sum[r]);
  }
  for (int i = 0; job.selects() && i < tokens; ++i) SelectFor(job, tile, group, i, worker, state);
}

}  // namespace hysparse::cpu
