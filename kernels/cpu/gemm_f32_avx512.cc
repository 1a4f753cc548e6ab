// f32 micro-kernel for AVX-512: up to 12 rows × 32 columns in 24 accumulators. Few rows take several panels at once, to
// have enough independent chains to hide the latency of the multiply-add and enough streams to fill the memory's pipes.
#include "kernels/cpu/gemm_store_avx512.h"

namespace hysparse::cpu {
namespace {

constexpr int kRows = 12;
constexpr int kPrefetch = 2048;  // bytes ahead in a panel

template <int R, int P>
void Tile(const GemmTask& task, int row, int panel) {
  const std::byte* b = task.b + panel * task.panel_bytes;
  const char* a = static_cast<const char*>(task.a) + row * task.a_row;
  __m512 acc[R][2 * P];
  for (auto& line : acc) {
    for (__m512& x : line) x = _mm512_setzero_ps();
  }
  for (int k = 0; k < task.depth; ++k) {
    __m512 w[2 * P];
#pragma GCC unroll 8
    for (int j = 0; j < 2 * P; ++j) {
      const std::byte* at = b + (j / 2) * task.panel_bytes + k * kPanel * 4 + (j % 2) * 64;
      if (R == 1) _mm_prefetch(reinterpret_cast<const char*>(at + kPrefetch), _MM_HINT_T0);
      w[j] = _mm512_load_ps(at);
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const __m512 x = _mm512_set1_ps(reinterpret_cast<const float*>(a + r * task.a_row)[k]);
#pragma GCC unroll 8
      for (int j = 0; j < 2 * P; ++j) acc[r][j] = _mm512_fmadd_ps(x, w[j], acc[r][j]);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int j = 0; j < 2 * P; ++j) Store16(task, row + r, panel * kPanel + j * 16, acc[r][j]);
  }
}

template <int R>
void Panels(const GemmTask& task, int row) {
  constexpr int kWide = R == 1 ? 4 : R <= 3 ? 2 : 1;
  const int panels = (task.cols + kPanel - 1) / kPanel;
  int panel = 0;
  for (; panel + kWide <= panels; panel += kWide) Tile<R, kWide>(task, row, panel);
  for (; panel < panels; ++panel) Tile<R, 1>(task, row, panel);
}

using Rows = void (*)(const GemmTask&, int row);
constexpr Rows kByCount[kRows] = {Panels<1>, Panels<2>, Panels<3>, Panels<4>,  Panels<5>,  Panels<6>,
                                  Panels<7>, Panels<8>, Panels<9>, Panels<10>, Panels<11>, Panels<12>};

}  // namespace

void GemmF32Avx512(const GemmTask& task) {
  const int tiles = (task.rows + kRows - 1) / kRows;
  for (int tile = 0, row = 0; tile < tiles; ++tile) {
    const int count = (task.rows - row + tiles - tile - 1) / (tiles - tile);  // even heights
    kByCount[count - 1](task, row);
    row += count;
  }
}

}  // namespace hysparse::cpu
