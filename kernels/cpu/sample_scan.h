// The passes of sampling that touch the whole vocabulary, one implementation per instruction set. All add and compare
// in the same 16 lanes and blocks of kScanBlock, so that every instruction set gives the same bits. Any thread.
#pragma once

#include <cstdint>

namespace hysparse::cpu {

constexpr int32_t kScanBlock = 128;
constexpr int32_t ScanBlocks(int32_t n) { return (n + kScanBlock - 1) / kScanBlock; }

struct ScanOps {
  // maxima[b] = max of block b of x[0, n). False when a value is NaN or +inf; the maxima are then meaningless.
  bool (*block_max)(const float* x, int32_t n, float* maxima);
  // w = exp((x - max) * scale), or 0 where that is below `floor` or x - max underflows; sums[b] = Σ of block b.
  // `max` is finite and >= every x; scale > 0. w may be null: only the sums.
  void (*weights)(const float* x, int32_t n, float max, float scale, float floor, float* w, double* sums);
  // How many x[i] >= threshold there are, and the sum of their w[i] (w null: of ones).
  double (*above)(const float* x, const float* w, int32_t n, float threshold, int32_t* count);
  // w[i] = 0 unless x[i] > threshold and w[i] >= floor; sums[b] = Σ of block b.
  void (*keep)(const float* x, int32_t n, float threshold, float floor, float* w, double* sums);
};

extern const ScanOps kScanAvx2, kScanAvx512;

}  // namespace hysparse::cpu
