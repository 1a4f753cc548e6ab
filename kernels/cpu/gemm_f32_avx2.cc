// f32 micro-kernel for AVX2: up to 6 rows × 16 columns (half a panel) in 12 accumulators; one row takes a whole panel.
#include "kernels/cpu/gemm_walk.h"
#include "kernels/cpu/vec_avx2.h"

namespace hysparse::cpu {
namespace {

constexpr int kPrefetch = 2048;  // bytes ahead in a panel

// Columns [col, col + 8) of the task's row `row`; those beyond task.cols are dropped.
void Store8(const GemmTask& task, int row, int col, Vec value) {
  const int valid = task.cols - col;
  if (valid <= 0) return;
  const int n = valid < kLanes ? valid : kLanes;
  if (task.bias != nullptr) value = Add(value, Load(task.bias + col, n));
  const int64_t at = row * task.out_stride + col;
  if (task.out_bf16) {
    StoreBf16(static_cast<uint16_t*>(task.out) + at, n, value);
  } else {
    Store(static_cast<float*>(task.out) + at, n, value);
  }
}

// R rows × 8 * W columns from column `col` on, all of one panel; for one row the panels are streamed, hence the
// prefetch.
template <int R, int W>
void Tile(const GemmTask& task, int row, int col, const Chunk& chunk) {
  const char* b = reinterpret_cast<const char*>(task.b + col / kPanel * task.panel_bytes) +
                  (int64_t{chunk.begin} * kPanel + col % kPanel) * 4;
  const int64_t a_row = task.a_row;
  // A pointer for three rows each: the others are one and two strides away, which addressing does for nothing.
  const char* a[(R + 2) / 3];
#pragma GCC unroll 2
  for (int i = 0; i < (R + 2) / 3; ++i)
    a[i] = static_cast<const char*>(task.a) + (row + 3 * i) * a_row + chunk.begin * 4;
  __m256 acc[R][W];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int j = 0; j < W; ++j)
      acc[r][j] = chunk.first ? _mm256_setzero_ps() : _mm256_load_ps(chunk.sums + (r * W + j) * 8);
  }
  for (int k = 0; k < chunk.count; ++k) {
    if (R == 1) {
      _mm_prefetch(b + kPrefetch, _MM_HINT_T0);
      _mm_prefetch(b + kPrefetch + 64, _MM_HINT_T0);
    }
    __m256 w[W];
#pragma GCC unroll 4
    for (int j = 0; j < W; ++j) w[j] = _mm256_load_ps(reinterpret_cast<const float*>(b) + 8 * j);
    b += kPanel * sizeof(float);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const __m256 x = _mm256_broadcast_ss(reinterpret_cast<const float*>(a[r / 3] + (r % 3) * a_row));
#pragma GCC unroll 4
      for (int j = 0; j < W; ++j) acc[r][j] = _mm256_fmadd_ps(x, w[j], acc[r][j]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < (R + 2) / 3; ++i) a[i] += sizeof(float);
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int j = 0; j < W; ++j) {
      if (chunk.last) {
        Store8(task, row + r, col + 8 * j, acc[r][j]);
      } else {
        _mm256_store_ps(chunk.sums + (r * W + j) * 8, acc[r][j]);
      }
    }
  }
}

template <int R>
void OnePanel(const GemmTask& task, int row, int panel, const Chunk& chunk) {
  constexpr int kWide = R <= 2 ? 4 : 2;
  for (int col = 0; col < kPanel; col += 8 * kWide) {
    Chunk part = chunk;
    if (chunk.sums != nullptr) part.sums = chunk.sums + col * R;
    Tile<R, kWide>(task, row, panel * kPanel + col, part);
  }
}

template <int R>
void Panels(const GemmTask& task, int row) {
  const int panels = (task.cols + kPanel - 1) / kPanel;
  for (int panel = 0; panel < panels; ++panel) OnePanel<R>(task, row, panel, {0, task.depth, true, true, nullptr});
}

template <int R>
constexpr TileFns Fns() {
  return {Panels<R>, OnePanel<R>};
}

constexpr TileFns kByRows[] = {Fns<1>(), Fns<2>(), Fns<3>(), Fns<4>(), Fns<5>(), Fns<6>()};

}  // namespace

void GemmF32Avx2(const GemmTask& task) { Walk(task, kByRows); }

}  // namespace hysparse::cpu
