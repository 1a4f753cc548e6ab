#include "kernels/cpu/pack.h"

#include <cstring>

#include "kernels/cpu/bf16.h"
#include "kernels/cpu/gemm_kernels.h"

namespace hysparse::cpu {
namespace {

uint16_t LoadAsBf16(const MatrixSource& source, int64_t i) {
  if (source.dtype == DType::kBF16) return static_cast<const uint16_t*>(source.data)[i];
  return FloatToBf16(LoadAsFloat(source.data, source.dtype, i));
}

// Column `col` of a bf16 panel: k pairs lie 16 columns apart, steps of 32 k a pair of 1 KiB groups apart.
void PackBf16Column(const MatrixSource& source, int32_t row, int col, std::byte* panel) {
  auto* out = reinterpret_cast<uint16_t*>(panel) + (col / 16) * 512 + (col % 16) * 2;
  const int64_t first = int64_t{row} * source.cols;
  for (int32_t k = 0; k < source.cols; ++k) {
    out[(k / 32) * 1024 + (k % 32 / 2) * 32 + k % 2] = LoadAsBf16(source, first + k);
  }
}

void PackF32Column(const MatrixSource& source, int32_t row, int col, bool round, std::byte* panel) {
  float* out = reinterpret_cast<float*>(panel) + col;
  const int64_t first = int64_t{row} * source.cols;
  for (int32_t k = 0; k < source.cols; ++k) {
    out[int64_t{k} * kPanel] =
        round ? Bf16ToFloat(LoadAsBf16(source, first + k)) : LoadAsFloat(source.data, source.dtype, first + k);
  }
}

}  // namespace

int64_t PanelBytes(int32_t cols, DType stored) {
  if (stored == DType::kF32) return int64_t{cols} * kPanel * 4;
  return (int64_t{cols} + kBf16Depth - 1) / kBf16Depth * kBf16Depth * kPanel * 2;
}

void PackPanel(std::span<const MatrixSource> sources, int index, DType stored, bool round, std::byte* panel) {
  int64_t begin = int64_t{index} * kPanel;  // first row of the panel, counted from the current source's first
  int col = 0;
  for (const MatrixSource& source : sources) {
    for (; col < kPanel && begin + col < source.rows; ++col) {
      const auto row = static_cast<int32_t>(begin + col);
      if (stored == DType::kF32) {
        PackF32Column(source, row, col, round, panel);
      } else {
        PackBf16Column(source, row, col, panel);
      }
    }
    begin -= source.rows;
  }
}

}  // namespace hysparse::cpu
