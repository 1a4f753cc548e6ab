// How the AVX micro-kernels walk a task: tile of rows by tile of rows, all panels for each. Where k is long, in chunks,
// so that the tile's part of A stays in the first-level cache while the panels pass; the sums wait in memory in
// between, unrounded, so that an output stays one chain. Included by per-ISA sources; internal linkage.
#pragma once

#include "kernels/cpu/gemm_kernels.h"

namespace hysparse::cpu {
namespace {

// One tile's part of k. `sums` holds its accumulators between chunks: 32 floats a row.
struct Chunk {
  int begin = 0, count = 0;
  bool first = true, last = true;
  float* sums = nullptr;
};

// Of a fixed number of rows: all panels with all of k, and a chunk of one panel.
struct TileFns {
  void (*panels)(const GemmTask&, int row);
  void (*chunk)(const GemmTask&, int row, int panel, const Chunk&);
};

constexpr int64_t kChunkBytes = int64_t{64} << 10;  // of a panel, about
constexpr int64_t kWholeBytes = int64_t{80} << 10;  // panels up to this are not cut
constexpr int kMaxPanels = kGroupBytes / kWholeBytes + 2;

// `by_rows[n - 1]` handles n rows, n <= kRows.
template <int kRows>
void Walk(const GemmTask& task, const TileFns (&by_rows)[kRows]) {
  const int tiles = (task.rows + kRows - 1) / kRows;
  const int panels = (task.cols + kPanel - 1) / kPanel;
  const bool whole = tiles == 1 || panels == 1 || panels > kMaxPanels || task.panel_bytes <= kWholeBytes;
  const int chunks = whole ? 1 : static_cast<int>((task.panel_bytes + kChunkBytes - 1) / kChunkBytes);
  alignas(64) float sums[kMaxPanels * kPanel * kRows];
  for (int tile = 0; tile < tiles; ++tile) {
    const int row = task.rows * tile / tiles, end = task.rows * (tile + 1) / tiles;
    const TileFns& fns = by_rows[end - row - 1];
    if (whole) fns.panels(task, row);
    for (int i = 0; i < chunks && !whole; ++i) {
      Chunk chunk = {task.depth * i / chunks, 0, i == 0, i == chunks - 1, nullptr};
      chunk.count = task.depth * (i + 1) / chunks - chunk.begin;
      for (int panel = 0; panel < panels; ++panel) {
        chunk.sums = sums + panel * kPanel * kRows;
        fns.chunk(task, row, panel, chunk);
      }
    }
  }
}

}  // namespace
}  // namespace hysparse::cpu
