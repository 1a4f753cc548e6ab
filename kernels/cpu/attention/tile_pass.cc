#include "kernels/cpu/attention/tile_pass.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/attention/select_blocks.h"
#include "kernels/cpu/attention/tile_packer.h"

namespace hysparse::cpu {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr float kLog2E = 1.4426950408889634f;

// Calls use(first tile, tiles, where they lie packed) for each run of adjacent bits where all tiles are kept, else for
// each bit. There the next tile is packed before the last one is used: the packed panels have then left the store
// buffers, for which loads of whole AMX tiles would wait.
template <class Pack, class Use>
void ForEachRun(uint32_t tiles, bool keep, Pack pack, Use use) {
  if (!keep) {
    const std::byte* at = pack(std::countr_zero(tiles));
    while (tiles != 0) {
      const int tile = std::countr_zero(tiles);
      tiles &= tiles - 1;
      const std::byte* next = tiles != 0 ? pack(std::countr_zero(tiles)) : nullptr;
      use(tile, 1, at);
      at = next;
    }
    return;
  }
  while (tiles != 0) {
    const int first = std::countr_zero(tiles), count = std::countr_one(tiles >> first);
    const std::byte* at = pack(first);
    for (int t = 1; t < count; ++t) pack(first + t);
    use(first, count, at);
    tiles &= ~(((1u << count) - 1) << first);
  }
}

// S = Q·K of some rows, for the vectors of 16 keys in the bit set.
void Scores(const Job& job, TilePacker& packer, const std::byte* query, int rows, uint32_t tiles, uint32_t vectors,
            float* scores) {
  const int64_t panel = int64_t{job.units} * kLanes;
  ForEachRun(
      tiles, packer.keep(), [&](int tile) { return packer.Keys(tile, tiles); },
      [&](int first, int count, const std::byte* keys) {
        const uint32_t needed = vectors >> (first * kTileVectors) << (32 - count * kTileVectors);  // of the run
        const int end = count * kTileVectors - std::countl_zero(needed);
        const int begin = std::countr_zero(vectors >> (first * kTileVectors));
        job.kernels->multiply(query, job.units, rows, keys + begin * panel * 4, panel, end - begin, job.units,
                              scores + first * kTileKeys + begin * kLanes, kScoreStride, false);
      });
}

// O = P·V of the same rows.
void WeightedValues(const Job& job, TilePacker& packer, const float* scores, int rows, uint32_t tiles, uint32_t vectors,
                    float* out) {
  bool accumulate = false;
  ForEachRun(
      tiles, packer.keep(), [&](int tile) { return packer.Values(tile, tiles); },
      [&](int first, int count, const std::byte* values) {
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
    if (tiles == 0) {
      std::fill_n(out.peak + first, sub_rows, kMinusInfinity);
      continue;
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
    const float rise = split.peak[r] - state.peak[r];
    const float a = rise > 0 ? std::exp2(-rise) : 1.0f, b = rise > 0 ? 1.0f : std::exp2(rise);
    state.peak[r] = std::max(state.peak[r], split.peak[r]);
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
