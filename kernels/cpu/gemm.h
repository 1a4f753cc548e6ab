// Matrix products of the CPU backend: packing at load time, and groups of products run as one parallel loop.
//
// A row's result is a function of that row and of the weight alone, bit for bit: each output is one chain of operations
// over ascending k (gemm_kernels.h). Packing on any thread before readiness, one matrix at a time; products from the
// backend's thread. Shapes: a [R, K] · packed [N, K]ᵀ + bias [N] -> out [R, N]. A gated product passes its panels few
// at a time, so that the fp32 values of gate and up never leave the caches.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/cpu/cpu_features.h"
#include "kernels/cpu/gemm_kernels.h"
#include "kernels/cpu/row_ops.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/ops.h"

namespace hysparse::cpu {

// N cut into panels of 32 columns in the layout of gemm_kernels.h.
class PanelMatrix : public PackedMatrix {
 public:
  PanelMatrix(int32_t rows, int32_t cols, int64_t panel_bytes, std::shared_ptr<std::byte> data)
      : PackedMatrix(rows, cols), panel_bytes_(panel_bytes), data_(std::move(data)) {}

  int panels() const { return (rows() + kPanel - 1) / kPanel; }
  int64_t panel_bytes() const { return panel_bytes_; }
  const std::byte* panel(int i) const { return data_.get() + i * panel_bytes_; }

 private:
  int64_t panel_bytes_;
  std::shared_ptr<std::byte> data_;
};

class GemmEngine {
 public:
  // `compute` is the dtype of A. bf16 below AVX512-BF16 multiplies in f32: A is widened row block by row block.
  GemmEngine(ThreadPool& pool, CpuIsa isa, DType compute);

  // InvalidArgument: no sources, sources of different widths, or an empty shape. ResourceExhausted: no memory.
  absl::StatusOr<std::unique_ptr<PanelMatrix>> Pack(std::span<const MatrixSource> sources);

  // One product. Allocates nothing.
  void Run(const GemmParams& params) { RunGroup(std::span(&params, 1)); }

  // Independent products of any sizes as one parallel loop: the experts of a step. At most kMaxGroup at a time share a
  // loop; their weights must come from this engine's Pack.
  void RunGroup(std::span<const GemmParams> products);

  static constexpr int kMaxGroup = 1024;

 private:
  struct Piece {  // how one product is cut into items: blocks of rows × groups of panels
    const GemmParams* product = nullptr;
    int64_t first_item = 0, items = 0;
    int block_rows = 0, row_blocks = 0, group_panels = 0;
  };

  Piece Cut(const GemmParams& product, int64_t items_wanted) const;
  void RunItem(const Piece& piece, int64_t item, int worker) const;
  void RunGated(const GemmParams& product, int row, int panel, int panels, int worker, GemmTask task) const;
  void SetRows(const GemmParams& product, int row, int worker, GemmTask& task) const;
  int64_t CopiedRowBytes(int32_t cols) const;
  absl::Status ReserveScratch(int32_t cols);

  ThreadPool& pool_;
  const DType compute_;  // of A
  const DType stored_;   // of the panels: f32 where the processor has no bf16 product
  void (*const kernel_)(const GemmTask&);
  const RowOps& rows_;
  const bool amx_;
  std::vector<Piece> pieces_;
  int64_t scratch_bytes_ = 0;                        // of one worker: a copied block of A
  std::vector<std::shared_ptr<std::byte>> scratch_;  // by worker; behind the block: gate and up of a few panels
};

}  // namespace hysparse::cpu
