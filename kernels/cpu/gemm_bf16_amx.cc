// bf16 micro-kernel for AMX: 32 rows × 32 columns in four accumulator tiles; up to 16 rows take two panels instead.
// Tiles are configured for exactly the rows there are, so that A needs no padding.
#include "kernels/cpu/gemm_store_avx512.h"

namespace hysparse::cpu {
namespace {

constexpr int kTileRows = 16;
constexpr int kTileBytes = 1024;
constexpr int kPrefetch = 4096;  // bytes ahead in a panel, into L2: more loads are in flight there than in L1
constexpr int kFewRows = 4;      // that run at the speed of memory

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Tiles 0–3 accumulate; 4 and 5 hold A; 6 and 7 hold B. Wide: all accumulators and A (4) have `upper` rows, 5–7 hold B.
void Configure(int upper, int lower, bool wide) {
  TileConfig config;
  for (int i = 0; i < 8; ++i) config.row_bytes[i] = 64;
  const int second = wide ? upper : lower;
  const int rows[8] = {upper, upper, second, second, upper, wide ? kTileRows : lower, kTileRows, kTileRows};
  for (int i = 0; i < 8; ++i) config.rows[i] = static_cast<uint8_t>(rows[i]);
  // GCC 12 believes that the instruction reads 8 bytes only and drops the other stores.
  asm volatile("" : : "r"(&config) : "memory");
  _tile_loadconfig(&config);
}

void StoreRows(const GemmTask& task, int row, int rows, int col, const float* tile) {
  for (int r = 0; r < rows; ++r) Store16(task, row + r, col, _mm512_load_ps(tile + r * 16));
}

// Writes accumulator tile T: directly where the output is plain f32, else through memory for bias, bf16 and edges.
#define HYSPARSE_STORE_TILE(T, first, count, col)                                                        \
  do {                                                                                                   \
    const int c = (col);                                                                                 \
    if (direct && c + 16 <= task.cols) {                                                                 \
      _tile_stored(T, static_cast<float*>(task.out) + (first)*task.out_stride + c, task.out_stride * 4); \
    } else {                                                                                             \
      _tile_stored(T, spill, 64);                                                                        \
      StoreRows(task, first, count, c, spill);                                                           \
    }                                                                                                    \
  } while (false)

// Rows of A that a step of k brings into L2: a tile load waits for all its rows, and the caches do not foresee them.
struct Fetch {
  const char* a = nullptr;  // the first row
  int rows = 0;
};

// The rows of the next square that fall to this panel, of `panels`.
Fetch NextRows(const GemmTask& task, int row, int panel, int panels) {
  const int next = row + 2 * kTileRows;
  const int rows = task.rows - next < 2 * kTileRows ? task.rows - next : 2 * kTileRows;
  if (rows <= 0) return {};
  const int begin = rows * panel / panels, end = rows * (panel + 1) / panels;
  return {static_cast<const char*>(task.a) + (next + begin) * task.a_row, end - begin};
}

// Takes the lines that a square will store to, so that its stores do not wait for them. Inlined, because GCC drops
// calls of a function that does nothing but fetch.
[[gnu::always_inline]] inline void FetchOutput(const GemmTask& task, int row, int rows, int col) {
  const float* out = static_cast<const float*>(task.out) + row * task.out_stride + col;
  for (int r = 0; r < rows; ++r, out += task.out_stride) {
    __builtin_prefetch(out, 1);
    __builtin_prefetch(out + 16, 1);
  }
}

// Rows [row, row + 16 + lower) × one panel.
void Square(const GemmTask& task, int row, int lower, int panel, bool direct, Fetch fetch) {
  alignas(64) float spill[kTileRows * 16];
  const char* a = static_cast<const char*>(task.a) + row * task.a_row;
  const char* a2 = a + kTileRows * task.a_row;
  const std::byte* b = task.b + panel * task.panel_bytes;
  const int col = panel * kPanel;
  if (direct) FetchOutput(task, row, kTileRows + lower, col);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int step = 0; step < task.depth; ++step) {
    for (int r = 0; r < fetch.rows; ++r) _mm_prefetch(fetch.a + r * task.a_row, _MM_HINT_T1);
    fetch.a += kStepBytes;
    _tile_loadd(6, b, 64);
    _tile_loadd(4, a, task.a_row);
    _tile_loadd(7, b + kTileBytes, 64);
    _tile_loadd(5, a2, task.a_row);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
    a += kStepBytes;
    a2 += kStepBytes;
    b += 2 * kTileBytes;
  }
  HYSPARSE_STORE_TILE(0, row, kTileRows, col);
  HYSPARSE_STORE_TILE(1, row, kTileRows, col + 16);
  HYSPARSE_STORE_TILE(2, row + kTileRows, lower, col);
  HYSPARSE_STORE_TILE(3, row + kTileRows, lower, col + 16);
}

void PrefetchTile(const std::byte* at) {
  for (int line = 0; line < kTileBytes; line += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(at) + line, _MM_HINT_T1);
  }
}

// Rows [row, row + rows), at most 16, × two panels (or one). The weights are read once. Few rows read them front to
// back, a panel at a time, and far ahead; with more rows the tile loads need the ports.
template <bool kTwo>
void Wide(const GemmTask& task, int row, int rows, int panel, bool direct) {
  alignas(64) float spill[kTileRows * 16];
  const bool ahead = rows <= kFewRows;
  const char* a = static_cast<const char*>(task.a) + row * task.a_row;
  const std::byte* b = task.b + panel * task.panel_bytes;
  const std::byte* b2 = b + task.panel_bytes;
  _tile_zero(0);
  _tile_zero(1);
  if (kTwo) _tile_zero(2);
  if (kTwo) _tile_zero(3);
  for (int step = 0; step < task.depth; ++step) {
    if (ahead) PrefetchTile(b + kPrefetch);
    if (ahead) PrefetchTile(b + kPrefetch + kTileBytes);
    _tile_loadd(4, a, task.a_row);
    _tile_loadd(5, b, 64);
    _tile_dpbf16ps(0, 4, 5);
    _tile_loadd(6, b + kTileBytes, 64);
    _tile_dpbf16ps(1, 4, 6);
    if (kTwo) {
      _tile_loadd(7, b2, 64);
      _tile_dpbf16ps(2, 4, 7);
      _tile_loadd(5, b2 + kTileBytes, 64);
      _tile_dpbf16ps(3, 4, 5);
    }
    a += kStepBytes;
    b += 2 * kTileBytes;
    b2 += 2 * kTileBytes;
  }
  const int col = panel * kPanel;
  HYSPARSE_STORE_TILE(0, row, rows, col);
  HYSPARSE_STORE_TILE(1, row, rows, col + 16);
  if (kTwo) HYSPARSE_STORE_TILE(2, row, rows, col + 32);
  if (kTwo) HYSPARSE_STORE_TILE(3, row, rows, col + 48);
}

#undef HYSPARSE_STORE_TILE

}  // namespace

void GemmBf16Amx(const GemmTask& task) {
  const bool direct = task.bias == nullptr && !task.out_bf16;
  const int panels = (task.cols + kPanel - 1) / kPanel;
  int configured = -1;
  for (int row = 0; row < task.rows; row += 2 * kTileRows) {
    const int rows = task.rows - row < 2 * kTileRows ? task.rows - row : 2 * kTileRows;
    const bool wide = rows <= kTileRows;
    if (rows != configured) Configure(wide ? rows : kTileRows, rows - kTileRows, wide);
    configured = rows;
    int panel = 0;
    if (wide) {
      for (; rows > kFewRows && panel + 2 <= panels; panel += 2) Wide<true>(task, row, rows, panel, direct);
      for (; panel < panels; ++panel) Wide<false>(task, row, rows, panel, direct);
    } else {
      for (; panel < panels; ++panel) {
        Square(task, row, rows - kTileRows, panel, direct, NextRows(task, row, panel, panels));
      }
    }
  }
  _tile_release();
}

}  // namespace hysparse::cpu
