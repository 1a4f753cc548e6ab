// f32 micro-kernel for AVX2: up to 6 rows × 16 columns (half a panel) in 12 accumulators; one row takes a whole panel.
#include <immintrin.h>

#include "kernels/cpu/gemm_kernels.h"

namespace hysparse::cpu {
namespace {

constexpr int kRows = 6;
constexpr int kPrefetch = 2048;  // bytes ahead in a panel

// Columns [col, col + 8) of the task's row `row`; those beyond task.cols are dropped.
void Store8(const GemmTask& task, int row, int col, __m256 value) {
  const int valid = task.cols - col;
  if (valid <= 0) return;
  float* out = static_cast<float*>(task.out) + row * task.out_stride + col;
  const float* bias = task.bias == nullptr ? nullptr : task.bias + col;
  if (valid >= 8 && !task.out_bf16) {
    _mm256_storeu_ps(out, bias == nullptr ? value : _mm256_add_ps(value, _mm256_loadu_ps(bias)));
    return;
  }
  float lane[8];
  _mm256_storeu_ps(lane, value);
  for (int i = 0; i < 8 && i < valid; ++i) {
    const float x = bias == nullptr ? lane[i] : lane[i] + bias[i];
    if (!task.out_bf16) {
      out[i] = x;
      continue;
    }
    const auto bits = __builtin_bit_cast(uint32_t, x);
    const uint32_t kept = x != x ? bits | 0x400000 : bits + 0x7fff + (bits >> 16 & 1);
    (static_cast<uint16_t*>(task.out) + row * task.out_stride + col)[i] = static_cast<uint16_t>(kept >> 16);
  }
}

// R rows × 8 * W columns from column `col` of a panel on; for one row the panels are streamed, hence the prefetch.
template <int R, int W>
void Tile(const GemmTask& task, int row, int panel, int col) {
  const char* b = reinterpret_cast<const char*>(task.b + panel * task.panel_bytes) + col * 4;
  const char* a = static_cast<const char*>(task.a) + row * task.a_row;
  __m256 acc[R][W];
  for (auto& line : acc) {
    for (__m256& x : line) x = _mm256_setzero_ps();
  }
  for (int k = 0; k < task.depth; ++k) {
    const char* at = b + k * kPanel * 4;
    if (R == 1) {
      _mm_prefetch(at + kPrefetch, _MM_HINT_T0);
      _mm_prefetch(at + kPrefetch + 64, _MM_HINT_T0);
    }
    __m256 w[W];
#pragma GCC unroll 4
    for (int j = 0; j < W; ++j) w[j] = _mm256_load_ps(reinterpret_cast<const float*>(at) + 8 * j);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const __m256 x = _mm256_broadcast_ss(reinterpret_cast<const float*>(a + r * task.a_row) + k);
#pragma GCC unroll 4
      for (int j = 0; j < W; ++j) acc[r][j] = _mm256_fmadd_ps(x, w[j], acc[r][j]);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int j = 0; j < W; ++j) Store8(task, row + r, panel * kPanel + col + 8 * j, acc[r][j]);
  }
}

template <int R>
void Panels(const GemmTask& task, int row) {
  constexpr int kWide = R <= 2 ? 4 : 2;
  const int panels = (task.cols + kPanel - 1) / kPanel;
  for (int panel = 0; panel < panels; ++panel) {
    for (int col = 0; col < kPanel; col += 8 * kWide) Tile<R, kWide>(task, row, panel, col);
  }
}

using Rows = void (*)(const GemmTask&, int row);
constexpr Rows kByCount[kRows] = {Panels<1>, Panels<2>, Panels<3>, Panels<4>, Panels<5>, Panels<6>};

}  // namespace

void GemmF32Avx2(const GemmTask& task) {
  const int tiles = (task.rows + kRows - 1) / kRows;
  for (int tile = 0, row = 0; tile < tiles; ++tile) {
    const int count = (task.rows - row + tiles - tile - 1) / (tiles - tile);  // even heights
    kByCount[count - 1](task, row);
    row += count;
  }
}

}  // namespace hysparse::cpu
