// bf16 micro-kernel for AVX512-BF16: as the f32 one, with VDPBF16PS taking two k at a time.
#include "kernels/cpu/gemm_store_avx512.h"
#include "kernels/cpu/gemm_walk.h"

namespace hysparse::cpu {
namespace {

constexpr int kHalf = 1024;      // bytes of 16 columns × 32 k
constexpr int kPrefetch = 4096;  // bytes ahead in the panels, into L2: more loads are in flight there than in L1

__m512bh AsBf16(__m512i x) { return reinterpret_cast<__m512bh>(x); }
__m512bh Pair(const char* a) { return AsBf16(_mm512_set1_epi32(*reinterpret_cast<const int32_t*>(a))); }

// The first tile of a task brings the panels into L2, the others find them there.
__m512bh Weights(const std::byte* b, bool fetch) {
  if (fetch) _mm_prefetch(reinterpret_cast<const char*>(b + kPrefetch), _MM_HINT_T1);
  return AsBf16(_mm512_load_si512(b));
}

// One step of k of R rows by one panel. Few rows run at the speed of memory: they read the panel front to back. More
// rows load a pair of k once for both halves.
template <int R>
void Step(const char* const* a, int64_t a_row, const std::byte* b, bool fetch, __m512 (&acc)[R][2]) {
  if constexpr (R <= 4) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
#pragma GCC unroll 16
      for (int pair = 0; pair < kBf16Depth / 2; ++pair, b += 64) {
        const __m512bh w = Weights(b, fetch);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          acc[r][half] = _mm512_dpbf16_ps(acc[r][half], Pair(a[r / 3] + (r % 3) * a_row + pair * 4), w);
        }
      }
    }
  } else {
    const char* at[(R + 2) / 3];
#pragma GCC unroll 4
    for (int i = 0; i < (R + 2) / 3; ++i) at[i] = a[i];
    for (int pair = 0; pair < kBf16Depth / 2; ++pair, b += 64) {
      const __m512bh w[2] = {Weights(b, fetch), Weights(b + kHalf, fetch)};
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        const __m512bh x = Pair(at[r / 3] + (r % 3) * a_row);
        acc[r][0] = _mm512_dpbf16_ps(acc[r][0], x, w[0]);
        acc[r][1] = _mm512_dpbf16_ps(acc[r][1], x, w[1]);
      }
#pragma GCC unroll 4
      for (int i = 0; i < (R + 2) / 3; ++i) at[i] += sizeof(int32_t);
    }
  }
}

template <int R>
void Tile(const GemmTask& task, int row, int panel, const Chunk& chunk) {
  const std::byte* b = task.b + panel * task.panel_bytes + int64_t{chunk.begin} * 2 * kHalf;
  const int64_t a_row = task.a_row;
  // A pointer for three rows each: the others are one and two strides away, which addressing does for nothing.
  const char* a[(R + 2) / 3];
#pragma GCC unroll 4
  for (int i = 0; i < (R + 2) / 3; ++i)
    a[i] = static_cast<const char*>(task.a) + (row + 3 * i) * a_row + chunk.begin * kStepBytes;
  __m512 acc[R][2];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j)
      acc[r][j] = chunk.first ? _mm512_setzero_ps() : _mm512_load_ps(chunk.sums + (r * 2 + j) * 16);
  }
  const bool fetch = row == 0;
  for (int step = 0; step < chunk.count; ++step, b += 2 * kHalf) {
    Step<R>(a, a_row, b, fetch, acc);
#pragma GCC unroll 4
    for (int i = 0; i < (R + 2) / 3; ++i) a[i] += kStepBytes;
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
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
  const Chunk all = {0, task.depth, true, true, nullptr};
  const int panels = (task.cols + kPanel - 1) / kPanel;
  for (int panel = 0; panel < panels; ++panel) Tile<R>(task, row, panel, all);
}

template <int R>
constexpr TileFns Fns() {
  return {Panels<R>, Tile<R>};
}

constexpr TileFns kByRows[] = {Fns<1>(), Fns<2>(), Fns<3>(), Fns<4>(),  Fns<5>(),  Fns<6>(),
                               Fns<7>(), Fns<8>(), Fns<9>(), Fns<10>(), Fns<11>(), Fns<12>()};

}  // namespace

void GemmBf16Avx512(const GemmTask& task) { Walk(task, kByRows); }

}  // namespace hysparse::cpu
