// f32 micro-kernel for AVX-512: up to 12 rows × 32 columns in 24 accumulators. Few rows take several panels at once, to
// have enough independent chains to hide the latency of the multiply-add and enough streams to fill the memory's pipes.
#include "kernels/cpu/gemm_store_avx512.h"
#include "kernels/cpu/gemm_walk.h"

namespace hysparse::cpu {
namespace {

constexpr int kPrefetch = 2048;  // bytes ahead in a panel

template <int R, int P>
void Tile(const GemmTask& task, int row, int panel, const Chunk& chunk) {
  const std::byte* b = task.b + panel * task.panel_bytes + int64_t{chunk.begin} * kPanel * 4;
  const int64_t panel_bytes = task.panel_bytes, a_row = task.a_row;
  // A pointer for three rows each: the others are one and two strides away, which addressing does for nothing.
  const char* a[(R + 2) / 3];
#pragma GCC unroll 4
  for (int i = 0; i < (R + 2) / 3; ++i)
    a[i] = static_cast<const char*>(task.a) + (row + 3 * i) * a_row + chunk.begin * 4;
  __m512 acc[R][2 * P];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int j = 0; j < 2 * P; ++j)
      acc[r][j] = chunk.first ? _mm512_setzero_ps() : _mm512_load_ps(chunk.sums + (r * 2 + j) * 16);
  }
  for (int k = 0; k < chunk.count; ++k) {
    __m512 w[2 * P];
#pragma GCC unroll 8
    for (int j = 0; j < 2 * P; ++j) {
      const std::byte* at = b + (j / 2) * panel_bytes + (j % 2) * 64;
      if (R == 1) _mm_prefetch(reinterpret_cast<const char*>(at + kPrefetch), _MM_HINT_T0);
      w[j] = _mm512_load_ps(at);
    }
    b += kPanel * sizeof(float);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const __m512 x = _mm512_set1_ps(*reinterpret_cast<const float*>(a[r / 3] + (r % 3) * a_row));
#pragma GCC unroll 8
      for (int j = 0; j < 2 * P; ++j) acc[r][j] = _mm512_fmadd_ps(x, w[j], acc[r][j]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < (R + 2) / 3; ++i) a[i] += sizeof(float);
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int j = 0; j < 2 * P; ++j) {
      if (chunk.last) {
        Store16(task, row + r, panel * kPanel + j * 16, acc[r][j]);
      } else {
        _mm512_store_ps(chunk.sums + (r * 2 + j) * 16, acc[r][j]);
      }
    }
  }
}

template <int R>
void Panels(const GemmTask& task, int row) {
  constexpr int kWide = R == 1 ? 4 : R <= 3 ? 2 : 1;
  const Chunk all = {0, task.depth, true, true, nullptr};
  const int panels = (task.cols + kPanel - 1) / kPanel;
  int panel = 0;
  for (; panel + kWide <= panels; panel += kWide) Tile<R, kWide>(task, row, panel, all);
  for (; panel < panels; ++panel) Tile<R, 1>(task, row, panel, all);
}

template <int R>
constexpr TileFns Fns() {
  return {Panels<R>, Tile<R, 1>};
}

constexpr TileFns kByRows[] = {Fns<1>(), Fns<2>(), Fns<3>(), Fns<4>(),  Fns<5>(),  Fns<6>(),
                               Fns<7>(), Fns<8>(), Fns<9>(), Fns<10>(), Fns<11>(), Fns<12>()};

}  // namespace

void GemmF32Avx512(const GemmTask& task) { Walk(task, kByRows); }

}  // namespace hysparse::cpu
