// Turns rows of a checkpoint matrix into panels (gemm_kernels.h). Any thread.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/ops.h"

namespace hysparse::cpu {

// Bytes of one panel of `cols` input features, of f32 or bf16.
int64_t PanelBytes(int32_t cols, DType stored);

// Fills panel `index` (zeroed before) from the sources concatenated along their rows. Values are widened to f32, or
// rounded to the nearest bf16; through bf16 to f32 when `round` asks for bf16 values in f32 storage.
void PackPanel(std::span<const MatrixSource> sources, int index, DType stored, bool round, std::byte* panel);

}  // namespace hysparse::cpu
