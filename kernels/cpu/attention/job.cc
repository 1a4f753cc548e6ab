#include "kernels/cpu/attention/job.h"

#include <algorithm>

namespace hysparse::cpu {
namespace {

// Hands out 64-byte aligned pieces.
class Carver {
 public:
  explicit Carver(std::byte* base) : base_(base) {}
  template <class T>
  T* Take(int64_t count) {
    std::byte* at = base_ == nullptr ? nullptr : base_ + used_;
    used_ += RoundUp(count * static_cast<int64_t>(sizeof(T)), 64);
    return reinterpret_cast<T*>(at);
  }
  int64_t used() const { return used_; }

 private:
  std::byte* base_;
  int64_t used_ = 0;
};

int64_t Blocks(const ScratchShape& shape) { return shape.block > 0 ? shape.context / shape.block + 1 : 0; }
int64_t Splits(const ScratchShape& shape) { return shape.context / kSplitKeys + 1; }
int Rows(const ScratchShape& shape) { return std::max(kTileRows, shape.group); }

// Enough for one token, or for 64 K block maxima.
int64_t BlockFloats(const ScratchShape& shape) {
  return shape.block > 0 ? std::max<int64_t>(Blocks(shape) * std::max(shape.group, kSubRows), 1 << 16) : 0;
}

RowState CarveState(Carver& carver, int64_t rows, int64_t value_cols) {
  RowState state;
  state.peak = carver.Take<float>(rows);
  state.sum = carver.Take<float>(rows);
  state.out = carver.Take<float>(rows * value_cols);
  return state;
}

Worker CarveWorker(Carver& carver, const ScratchShape& shape) {
  const int64_t rows = RoundUp(Rows(shape), 16) + 16;
  const int64_t units = RoundUp(shape.qk_dim, 16), value_cols = RoundUp(shape.v_dim, kLanes);
  Worker w;
  w.query = carver.Take<std::byte>(rows * units * 4);
  w.keys = carver.Take<std::byte>(kSplitKeys * units * 4);
  w.values = carver.Take<std::byte>(value_cols / kLanes * kValueStride * 4);
  w.scores = carver.Take<float>(kSubRows * kScoreStride);
  w.split = CarveState(carver, rows, value_cols);
  w.total = CarveState(carver, rows, value_cols);
  w.total.block_max = carver.Take<float>(BlockFloats(shape));
  w.mask = carver.Take<KeyMask>(Rows(shape));
  w.cursor = carver.Take<int32_t>(Rows(shape));
  w.score = carver.Take<float>(Blocks(shape));
  w.rank = carver.Take<uint64_t>(Blocks(shape));
  w.rows = carver.Take<const void*>(kTileKeys);
  w.next = carver.Take<const void*>(kTileKeys);
  w.zeros = carver.Take<float>(std::max(shape.qk_dim, shape.v_dim));
  return w;
}

}  // namespace

Scratch LayOut(std::byte* base, const ScratchShape& shape) {
  Carver carver(base);
  Scratch s;
  s.max_rows = Rows(shape);
  s.block_floats = BlockFloats(shape);
  s.tiles = carver.Take<RowTile>(shape.tokens);
  s.wave_items = 8 * shape.threads;
  s.wave_item = carver.Take<int32_t>(s.wave_items);
  s.wave_begin = carver.Take<int32_t>(s.wave_items + 1);
  const int slot_rows = std::max(kSubRows, shape.group);
  s.slot_floats = SlotFloats(slot_rows, static_cast<int>(RoundUp(shape.v_dim, kLanes)), shape.block) *
                  std::max<int64_t>(Splits(shape), 8 * shape.threads);
  s.slots = carver.Take<float>(s.slot_floats);
  Carver one(nullptr);
  CarveWorker(one, shape);
  s.worker_bytes = one.used();
  s.workers = carver.Take<std::byte>(s.worker_bytes * shape.threads);
  s.bytes = carver.used();
  return s;
}

Worker Scratch::At(int worker, const ScratchShape& shape) const {
  Carver carver(workers + worker * worker_bytes);
  return CarveWorker(carver, shape);
}

}  // namespace hysparse::cpu
