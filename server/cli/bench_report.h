// The figures of a bench run and how they are shown. Pure; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/model/model_spec.h"
#include "kernels/dtype.h"

namespace hysparse {

// One line of the table: tokens a second, and what share of a ceiling that is.
struct BenchFigure {
  std::string name;  // "prefill 2048"
  double tokens_s = 0;
  double achieved = 0;  // FLOP/s of a prefill, bytes/s of a decode
  double share = 0;     // of the ceiling that was measured beside it; 0: none
};

struct BenchReport {
  std::string model, device;
  DType dtype = DType::kF32;
  int32_t runs = 0;
  double startup_s = 0;
  double read_bytes_s = 0, gemm_flop_s = 0;  // the machine's ceilings
  DType gemm_dtype = DType::kF32;            // of the GEMM ceiling: float32 where there is no bfloat16 one
  std::vector<BenchFigure> prefill, decode;
  double batch_gain = 0;                              // tokens/s of 16 decodes over one
  double engine_overhead_s = 0, http_overhead_s = 0;  // a token, beyond the forward pass
};

std::string BenchAsText(const BenchReport& report);
std::string BenchAsJson(const BenchReport& report);

}  // namespace hysparse
