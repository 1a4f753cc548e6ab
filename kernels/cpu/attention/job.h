// One attention op as the workers see it, and the scratch it runs in. A Job is built on the caller's stack, read by all
// workers, and gone when the op returns; each Worker belongs to one thread.
//
// A *row tile* is some adjacent tokens of one sequence; with one KV group it is the unit of work: tokens * group rows,
// token-major. Which tiles a step is cut into depends on the batch and the thread count, and changes no result.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention/micro_kernels.h"
#include "kernels/params.h"

namespace hysparse::cpu {

enum class AttentionKind { kDense, kWindow, kSparse };

struct RowTile {
  int32_t sequence, token_begin, token_end;
  int32_t splits;  // > 0: its splits are spread over the workers; 0: one worker takes them all
  int64_t cost;    // rows * keys, about
};

struct Job {
  const MicroKernels* kernels = nullptr;
  AttentionKind kind = AttentionKind::kDense;
  const AttentionParams* p = nullptr;
  int32_t window = 0;
  const int32_t* first_key = nullptr;      // [S] window: keys before it are masked; null: none
  const BlockSelection* blocks = nullptr;  // dense: to be chosen, or null; sparse: what was chosen
  int group = 0;                           // query heads per KV head
  int units = 0;                           // units of a row of Q and of K
  int value_cols = 0;                      // E rounded up to panels
  float log2_scale = 0.0f;                 // scale * log2(e): the softmax works in powers of two

  bool selects() const { return kind == AttentionKind::kDense && blocks != nullptr; }
  // First key that the token of `sequence` at `position` sees (dense, window; sparse: 0).
  int FirstKey(int sequence, int position) const {
    const int first = kind == AttentionKind::kWindow && position >= window ? position - window + 1 : 0;
    return first_key == nullptr ? first : std::max(first, first_key[sequence]);
  }
  int UnitsOfKeys(int keys) const { return kernels->pairs ? keys / 2 : keys; }
};

// Softmax state of the rows of a tile: of one split, or of all splits folded so far. Rows are padded to 16.
struct RowState {
  float* peak = nullptr;       // [rows] maximum logit * log2(e); -inf: no key yet
  float* sum = nullptr;        // [rows] sum of exp2(logit - peak)
  float* out = nullptr;        // [rows, value_cols] sum of exp2(logit - peak) * v
  float* block_max = nullptr;  // [rows, block_stride] highest raw score by block, when the op selects
  int block_stride = 0;        // blocks held
  int first_block = 0;         // the block of column 0
};

struct Worker {
  std::byte* query = nullptr;   // [rows, units]
  std::byte* keys = nullptr;    // [32 panels, units, 16]
  std::byte* values = nullptr;  // [value panels] at kValueStride
  float* scores = nullptr;      // [kSubRows, kScoreStride]
  RowState split, total;
  KeyMask* mask = nullptr;      // [tokens]
  int32_t* cursor = nullptr;    // [tokens] sparse: index of the next selected block
  float* score = nullptr;       // [blocks]
  uint64_t* rank = nullptr;     // [blocks]
  const void** rows = nullptr;  // [kTileKeys] of the tile that is being packed
  const void** next = nullptr;  // [kTileKeys] of the one after it
  const void* zeros = nullptr;  // a row of K or V outside the sequence
};

// What the sizes of the scratch follow from; monotonic in every field.
struct ScratchShape {
  int threads = 1;
  int tokens = 0;  // of the step
  int group = 1;   // query heads per KV head
  int qk_dim = 0, v_dim = 0;
  int context = 0;  // tokens of the longest sequence
  int block = 0;    // smallest selection block; 0: nothing is selected
};

constexpr int kTileRows = 384;  // rows of a row tile, unless one token has more

inline int64_t RoundUp(int64_t x, int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

struct Scratch {
  RowTile* tiles = nullptr;       // [tokens]
  int32_t* wave_item = nullptr;   // [wave_items] items of one wave: tile * groups + group
  int32_t* wave_begin = nullptr;  // [wave_items + 1] first unit of work of each
  int wave_items = 0;
  float* slots = nullptr;  // states of single splits
  int64_t slot_floats = 0;
  int64_t block_floats = 0;  // capacity of a worker's block_max
  int max_rows = 0;
  std::byte* workers = nullptr;
  int64_t worker_bytes = 0;
  int64_t bytes = 0;  // of everything

  Worker At(int worker, const ScratchShape& shape) const;
};

// Floats of the slot of one split of `rows` rows.
inline int64_t SlotFloats(int rows, int value_cols, int block) {
  return RoundUp(rows, 16) * (2 + value_cols + (block > 0 ? kSplitKeys / block + 2 : 0));
}

// Lays the scratch out from `base` (null: only the size).
Scratch LayOut(std::byte* base, const ScratchShape& shape);

}  // namespace hysparse::cpu
