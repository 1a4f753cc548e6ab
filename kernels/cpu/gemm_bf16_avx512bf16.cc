// bf16 micro-kernel for AVX512-BF16: as the f32 one, with VDPBF16PS taking two k at a time.
#include "kernels/cpu/gemm_store_avx512.h"

namespace hysparse::cpu {
namespace {

constexpr int kRows = 12;
constexpr int kPrefetch = 2048;  // bytes ahead in a panel
constexpr int kHalf = 1024;      // bytes of 16 columns × 32 k

__m512bh AsBf16(__m512i x) { return reinterpret_cast<__m512bh>(x); }

template <int R, int P>
void Tile(const GemmTask& task, int row, int panel) {
  const std::byte* b = task.b + panel * task.panel_bytes;
  const char* a = static_cast<const char*>(task.a) + row * task.a_row;
  __m512 acc[R][2 * P];
  for (auto& line : acc) {
    for (__m512& x : line) x = _mm512_setzero_ps();
  }
  for (int step = 0; step < task.depth; ++step) {
    for (int pair = 0; pair < kBf16Depth / 2; ++pair) {
      __m512bh w[2 * P];
#pragma GCC unroll 8
      for (int j = 0; j < 2 * P; ++j) {
        const std::byte* at = b + (j / 2) * task.panel_bytes + (step * 2 + j % 2) * kHalf + pair * 64;
        if (R == 1) _mm_prefetch(reinterpret_cast<const char*>(at + kPrefetch), _MM_HINT_T0);
        w[j] = AsBf16(_mm512_load_si512(at));
      }
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        const int32_t* line = reinterpret_cast<const int32_t*>(a + r * task.a_row + step * kStepBytes);
        const __m512bh x = AsBf16(_mm512_set1_epi32(line[pair]));
#pragma GCC unroll 8
        for (int j = 0; j < 2 * P; ++j) acc[r][j] = _mm512_dpbf16_ps(acc[r][j], x, w[j]);
      }
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

void GemmBf16Avx512(const GemmTask& task) {
  const int tiles = (task.rows + kRows - 1) / kRows;
  for (int tile = 0, row = 0; tile < tiles; ++tile) {
    const int count = (task.rows - row + tiles - tile - 1) / (tiles - tile);  // even heights
    kByCount[count - 1](task, row);
    row += count;
  }
}

}  // namespace hysparse::cpu
