#include "kernels/cpu/attention/run_attention.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "kernels/cpu/attention/key_mask.h"
#include "kernels/cpu/attention/row_tiles.h"
#include "kernels/cpu/attention/tile_pass.h"

namespace hysparse::cpu {
namespace {

constexpr float kLog2E = 1.4426950408889634f;

class AttentionRun {
 public:
  AttentionRun(ThreadPool& pool, const OpContext& ctx, const Job& job) : pool_(pool), job_(job) {
    const AttentionParams& p = *job.p;
    shape_.threads = pool.size();
    shape_.tokens = p.batch.num_tokens;
    shape_.group = job.group;
    shape_.qk_dim = p.kv.qk_dim;
    shape_.v_dim = p.kv.v_dim;
    shape_.block = job.selects() ? job.blocks->block : 0;
    for (int s = 0; s < p.batch.num_sequences; ++s) {
      const int end = p.batch.query_start[s + 1];
      if (end > p.batch.query_start[s]) shape_.context = std::max(shape_.context, p.batch.position[end - 1] + 1);
    }
    const size_t skew = (64 - reinterpret_cast<uintptr_t>(ctx.workspace) % 64) % 64;
    scratch_ = LayOut(ctx.workspace + skew, shape_);
    if (static_cast<size_t>(scratch_.bytes) + skew > ctx.workspace_bytes) {
      std::fprintf(stderr, "attention needs a workspace of %lld bytes and has %zu\n",
                   static_cast<long long>(scratch_.bytes), ctx.workspace_bytes);
      std::abort();
    }
    for (int w = 0; w < pool.size(); ++w) {
      std::memset(const_cast<void*>(scratch_.At(w, shape_).zeros), 0,
                  sizeof(float) * std::max(p.kv.qk_dim, p.kv.v_dim));
    }
  }

  void Run() {
    const RowTiles tiles = CutRowTiles(job_, pool_.size(), scratch_);
    const int groups = job_.p->kv.kv_heads;
    for (int item = 0; item < tiles.spread * groups;) item = RunWave(item, tiles.spread * groups);
    const int first = tiles.spread * groups;
    pool_.ParallelFor(tiles.count * groups - first, [&](int64_t index, int worker) {
      Worker w = scratch_.At(worker, shape_);
      RunTile(first + static_cast<int>(index), w);
    });
  }

 private:
  const RowTile& TileOf(int item) const { return scratch_.tiles[item / job_.p->kv.kv_heads]; }
  int GroupOf(int item) const { return item % job_.p->kv.kv_heads; }
  int RowsOf(const RowTile& tile) const { return (tile.token_end - tile.token_begin) * job_.group; }

  // All splits of one tile and group, by one worker.
  void RunTile(int item, Worker& w) {
    const RowTile& tile = TileOf(item);
    const int group = GroupOf(item), rows = RowsOf(tile);
    job_.kernels->begin();
    UseBlockMax(tile, w);
    ClearState(job_, rows, w.total);
    w.split.block_max = w.total.block_max;
    w.split.block_stride = w.total.block_stride;
    PackQueries(job_, tile, group, w);
    SplitWalk walk(job_, tile, group, w);
    while (walk.Next()) {
      walk.FillMasks();
      RunSplit(job_, tile, group, walk.split(), w, w.split);
      FoldSplit(job_, rows, w.split, w.total);
    }
    FinishTile(job_, tile, group, w, w.total);
    job_.kernels->end();
  }

  // The splits of as many items from `item` on as the slots hold, spread over the workers, then their folds. Returns
  // the item after them.
  int RunWave(int item, int end) {
    int items = 0;
    int64_t units = 0, floats = 0;
    for (; item < end && items < scratch_.wave_items; ++item, ++items) {
      const RowTile& tile = TileOf(item);
      floats += SlotFloats(RowsOf(tile), job_.value_cols, shape_.block) * tile.splits;
      if (items > 0 && floats > scratch_.slot_floats) break;
      scratch_.wave_item[items] = item;
      scratch_.wave_begin[items] = static_cast<int32_t>(units);
      units += tile.splits;
    }
    scratch_.wave_begin[items] = static_cast<int32_t>(units);
    pool_.ParallelFor(units, [&](int64_t unit, int worker) {
      Worker w = scratch_.At(worker, shape_);
      const int32_t* after = std::upper_bound(scratch_.wave_begin, scratch_.wave_begin + items, unit);
      RunSplitOf(static_cast<int>(after - scratch_.wave_begin) - 1, static_cast<int>(unit - after[-1]), w);
    });
    pool_.ParallelFor(items, [&](int64_t i, int worker) {
      Worker w = scratch_.At(worker, shape_);
      FoldItem(static_cast<int>(i), w);
    });
    return item;
  }

  // The `ordinal`-th split of the wave's i-th item, into its slot.
  void RunSplitOf(int i, int ordinal, Worker& w) {
    const int item = scratch_.wave_item[i];
    const RowTile& tile = TileOf(item);
    const int group = GroupOf(item), rows = RowsOf(tile);
    RowState slot = Slot(i, ordinal);
    ClearState(job_, rows, slot);
    SplitWalk walk(job_, tile, group, w);
    for (int skipped = 0; skipped <= ordinal; ++skipped) {
      if (!walk.Next()) return;  // a sparse tile sees fewer splits than its context has
    }
    job_.kernels->begin();
    slot.first_block = FirstBlock(walk.split());
    walk.FillMasks();
    PackQueries(job_, tile, group, w);
    RunSplit(job_, tile, group, walk.split(), w, slot);
    job_.kernels->end();
  }

  void FoldItem(int i, Worker& w) {
    const RowTile& tile = TileOf(scratch_.wave_item[i]);
    const int rows = RowsOf(tile);
    UseBlockMax(tile, w);
    ClearState(job_, rows, w.total);
    for (int ordinal = 0; ordinal < tile.splits; ++ordinal) {
      const RowState slot = Slot(i, ordinal);
      FoldSplit(job_, rows, slot, w.total);
      if (job_.selects()) RaiseBlockMax(slot, FirstBlock(ordinal), rows, w.total);
    }
    FinishTile(job_, tile, GroupOf(scratch_.wave_item[i]), w, w.total);
  }

  // Dense tiles begin at split 0, so there `split` is the ordinal too.
  int FirstBlock(int split) const {
    return job_.selects() ? static_cast<int>(int64_t{split} * kSplitKeys / job_.blocks->block) : 0;
  }

  static void RaiseBlockMax(const RowState& slot, int first_block, int rows, const RowState& total) {
    const int blocks = std::min(slot.block_stride, total.block_stride - first_block);
    for (int r = 0; r < rows; ++r) {
      const float* from = slot.block_max + int64_t{r} * slot.block_stride;
      float* to = total.block_max + int64_t{r} * total.block_stride + first_block;
      for (int b = 0; b < blocks; ++b) to[b] = std::max(to[b], from[b]);
    }
  }

  void UseBlockMax(const RowTile& tile, Worker& w) const {
    const int last = job_.p->batch.position[tile.token_end - 1];
    w.total.block_stride = job_.selects() ? last / job_.blocks->block + 1 : 0;
  }

  RowState Slot(int i, int ordinal) const {
    const RowTile& tile = TileOf(scratch_.wave_item[i]);
    const int64_t rows = RoundUp(RowsOf(tile), 16);
    int64_t begin = 0;
    for (int before = 0; before < i; ++before) {
      const RowTile& other = TileOf(scratch_.wave_item[before]);
      begin += SlotFloats(RowsOf(other), job_.value_cols, shape_.block) * other.splits;
    }
    float* at = scratch_.slots + begin + SlotFloats(static_cast<int>(rows), job_.value_cols, shape_.block) * ordinal;
    RowState slot;
    slot.out = at;
    slot.peak = slot.out + rows * job_.value_cols;
    slot.sum = slot.peak + rows;
    slot.block_max = slot.sum + rows;
    slot.block_stride = job_.selects() ? kSplitKeys / job_.blocks->block + 2 : 0;
    return slot;
  }

  ThreadPool& pool_;
  const Job& job_;
  ScratchShape shape_;
  Scratch scratch_;
};

}  // namespace

void RunAttention(ThreadPool& pool, const MicroKernels& kernels, const OpContext& ctx, const AttentionParams& p,
                  AttentionKind kind, int window, const BlockSelection* blocks, const int32_t* first_key) {
  if (p.batch.num_tokens == 0) return;
  Job job;
  job.kernels = &kernels;
  job.kind = kind;
  job.p = &p;
  job.window = window;
  job.first_key = first_key;
  job.blocks = blocks;
  job.group = p.heads / p.kv.kv_heads;
  const int64_t elements = kernels.pairs ? 2 : 1;
  job.units = static_cast<int>(RoundUp((p.kv.qk_dim + elements - 1) / elements, kernels.unit_align));
  job.value_cols = static_cast<int>(RoundUp(p.kv.v_dim, kLanes));
  job.log2_scale = p.scale * kLog2E;
  AttentionRun(pool, ctx, job).Run();
}

}  // namespace hysparse::cpu
