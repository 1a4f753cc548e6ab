// The GEMM micro-kernels, one per instruction set, and the layout that they share. Internal to gemm.cc.
//
// A packed matrix is cut along N into panels of 32 columns, each contiguous and zero-padded to 32 columns:
//   f32   [K][32]
//   bf16  [K/32, rounded up][2 halves of 16 columns][16 pairs of k][16 columns][2 of a pair], zero-padded in K:
//         a 1 KiB group is one AMX tile, and each of its 64-byte rows one operand of VDPBF16PS.
//
// Each output is one chain of fused multiply-adds (or of the bf16 dot-product instruction) over ascending k in one
// accumulator, started at zero, whatever the number of rows or their place: a row's result depends on nothing else in
// the batch, bit for bit. Blocking may only ever reorder outputs, never the terms of one.
//
// Included by per-ISA sources: no header with inline functions of external linkage here.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hysparse::cpu {

constexpr int kPanel = 32;                         // columns of a panel
constexpr int kBf16Depth = 32;                     // k of one bf16 step: an AMX tile's row
constexpr int kStepBytes = 64;                     // of A, one bf16 step of one row
constexpr int64_t kGroupBytes = int64_t{1} << 20;  // of panels that the blocks of rows share: stays in L2
constexpr int kMaxTaskRows = 192;                  // whole tiles of every micro-kernel (32, 12, 6 rows)

// Some rows of A times some adjacent panels.
struct GemmTask {
  const void* a = nullptr;
  int64_t a_row = 0;             // bytes between rows
  int rows = 0;                  // at most kMaxTaskRows
  const std::byte* b = nullptr;  // the first panel
  int64_t panel_bytes = 0;
  int depth = 0;                // K (f32) or steps of 32 (bf16)
  int cols = 0;                 // valid columns of all panels
  const float* bias = nullptr;  // of the first column, or null
  void* out = nullptr;          // [rows, cols]
  int64_t out_stride = 0;       // elements
  bool out_bf16 = false;
};

void GemmF32Avx2(const GemmTask& task);
void GemmF32Avx512(const GemmTask& task);
void GemmBf16Avx512(const GemmTask& task);
void GemmBf16Amx(const GemmTask& task);

}  // namespace hysparse::cpu
