#include "kernels/cpu/gemm.h"

#include <algorithm>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/ceil_div.h"
#include "engine/base/result.h"
#include "kernels/cpu/memory.h"
#include "kernels/cpu/pack.h"

namespace hysparse::cpu {
namespace {

constexpr int kItemsPerThread = 4;  // so that one slow core does not hold up the loop

using KernelFn = void (*)(const GemmTask&);

KernelFn ChooseKernel(CpuIsa isa, DType stored) {
  if (stored == DType::kBF16) return isa == CpuIsa::kAmx ? GemmBf16Amx : GemmBf16Avx512;
  return isa >= CpuIsa::kAvx512 ? GemmF32Avx512 : GemmF32Avx2;
}

constexpr int kFetchedBytes = 4096;  // of up, while the gate is multiplied

// Values of the gate, and of up, that wait for the activation at a time: four panels of a full block of rows.
constexpr int64_t kGatedFloats = int64_t{kMaxTaskRows} * 4 * kPanel;

// Rows whose distance is a multiple of this fall into so few sets of the first-level cache that a tile's rows evict one
// another. A tile of AMX has more rows than the others.
constexpr int64_t kAliasAmx = 1024, kAliasVector = 4096;

}  // namespace

GemmEngine::GemmEngine(ThreadPool& pool, CpuIsa isa, DType compute)
    : pool_(pool),
      compute_(compute),
      stored_(compute == DType::kBF16 && isa >= CpuIsa::kAvx512Bf16 ? DType::kBF16 : DType::kF32),
      kernel_(ChooseKernel(isa, stored_)),
      rows_(isa >= CpuIsa::kAvx512 ? kRowOpsAvx512 : kRowOpsAvx2),
      amx_(stored_ == DType::kBF16 && isa == CpuIsa::kAmx),
      scratch_(pool.size()) {
  pieces_.reserve(kMaxGroup);
}

absl::StatusOr<std::unique_ptr<PanelMatrix>> GemmEngine::Pack(std::span<const MatrixSource> sources) {
  int64_t rows = 0;
  if (sources.empty()) return absl::InvalidArgumentError("a packed matrix needs a source");
  const int32_t cols = sources[0].cols;
  for (const MatrixSource& source : sources) {
    if (source.cols != cols || source.cols <= 0 || source.rows <= 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("cannot pack a [", source.rows, ", ", source.cols, "] matrix with one of ", cols, " columns"));
    }
    rows += source.rows;
  }
  if (rows > INT32_MAX) return absl::InvalidArgumentError(absl::StrCat("a packed matrix of ", rows, " rows"));
  const int64_t panel_bytes = PanelBytes(cols, stored_);
  const int64_t panels = CeilDiv(rows, kPanel);
  HYSPARSE_ASSIGN_OR_RETURN(auto data, AllocateZeroed(panels * panel_bytes));
  HYSPARSE_RETURN_IF_ERROR(ReserveScratch(cols));
  const bool round = compute_ == DType::kBF16;
  pool_.ParallelFor(panels, [&](int64_t i, int) {
    PackPanel(sources, static_cast<int>(i), stored_, round, data.get() + i * panel_bytes);
  });
  return std::make_unique<PanelMatrix>(static_cast<int32_t>(rows), cols, panel_bytes, std::move(data));
}

// A copied block's rows lie one cache line more than their length apart.
int64_t GemmEngine::CopiedRowBytes(int32_t cols) const {
  return CeilDiv(cols, kBf16Depth) * kBf16Depth * SizeOf(stored_) + 64;
}

absl::Status GemmEngine::ReserveScratch(int32_t cols) {
  const int64_t bytes = kMaxTaskRows * CopiedRowBytes(cols);
  if (bytes <= scratch_bytes_) return absl::OkStatus();
  for (auto& block : scratch_) {
    HYSPARSE_ASSIGN_OR_RETURN(block, AllocateZeroed(bytes + 2 * kGatedFloats * sizeof(float)));
  }
  scratch_bytes_ = bytes;
  return absl::OkStatus();
}

namespace {

// Points the task at `panels` panels from `panel` on, or as many as there are.
void SetPanels(const PanelMatrix& weight, const float* bias, int panel, int panels, GemmTask& task) {
  const int64_t col = int64_t{panel} * kPanel;
  task.b = weight.panel(panel);
  task.cols = static_cast<int>(std::min<int64_t>(int64_t{panels} * kPanel, weight.rows() - col));
  task.bias = bias == nullptr ? nullptr : bias + col;
}

void* OutAt(const GemmParams& product, int64_t row, int panel) {
  const int64_t at = row * product.out_stride + int64_t{panel} * kPanel;
  return static_cast<std::byte*>(product.out) + at * static_cast<int64_t>(SizeOf(product.out_dtype));
}

}  // namespace

// Rows into equal blocks of whole tiles; panels into groups that stay in L2 while the blocks of rows pass, and small
// enough for every thread to get several items.
GemmEngine::Piece GemmEngine::Cut(const GemmParams& product, int64_t items_wanted) const {
  Piece piece;
  const auto& weight = static_cast<const PanelMatrix&>(*product.weight);
  const int64_t blocks = CeilDiv(product.rows, kMaxTaskRows), tile_rows = amx_ ? 32 : 12;
  piece.block_rows = static_cast<int>(CeilDiv(CeilDiv(product.rows, blocks), tile_rows) * tile_rows);
  piece.row_blocks = static_cast<int>(CeilDiv(product.rows, piece.block_rows));
  const int64_t bytes = weight.panels() * weight.panel_bytes() * (product.gate == nullptr ? 1 : 2);
  const int64_t groups = std::max(CeilDiv(items_wanted, piece.row_blocks), CeilDiv(bytes, kGroupBytes));
  piece.group_panels = static_cast<int>(CeilDiv(weight.panels(), std::min<int64_t>(groups, weight.panels())));
  piece.items = int64_t{piece.row_blocks} * CeilDiv(weight.panels(), piece.group_panels);
  return piece;
}

void GemmEngine::RunGroup(std::span<const GemmParams> products) {
  for (; products.size() > kMaxGroup; products = products.subspan(kMaxGroup)) RunGroup(products.first(kMaxGroup));
  if (products.empty()) return;
  pieces_.clear();
  int64_t items = 0;
  const int64_t wanted = pool_.size() == 1 ? 1 : CeilDiv(pool_.size() * kItemsPerThread, products.size());
  for (const GemmParams& product : products) {
    if (product.rows <= 0) continue;
    Piece piece = Cut(product, wanted);
    piece.product = &product;
    piece.first_item = items;
    items += piece.items;
    pieces_.push_back(piece);
  }
  pool_.ParallelFor(items, [this](int64_t item, int worker) {
    const auto after = std::upper_bound(pieces_.begin(), pieces_.end(), item,
                                        [](int64_t i, const Piece& piece) { return i < piece.first_item; });
    RunItem(*(after - 1), item - (after - 1)->first_item, worker);
  });
}

// Blocks of rows vary fastest: consecutive items share their panels.
void GemmEngine::RunItem(const Piece& piece, int64_t item, int worker) const {
  const GemmParams& product = *piece.product;
  const auto& weight = static_cast<const PanelMatrix&>(*product.weight);
  const int row = static_cast<int>(item % piece.row_blocks) * piece.block_rows;
  const int panel = static_cast<int>(item / piece.row_blocks) * piece.group_panels;
  GemmTask task;
  task.rows = std::min(piece.block_rows, product.rows - row);
  task.panel_bytes = weight.panel_bytes();
  task.depth = stored_ == DType::kF32 ? weight.cols() : static_cast<int>(CeilDiv(weight.cols(), kBf16Depth));
  SetRows(product, row, worker, task);
  if (product.gate != nullptr) {
    const int end = std::min(panel + piece.group_panels, weight.panels());
    const int at_once = static_cast<int>(kGatedFloats / (task.rows * kPanel));
    for (int p = panel; p < end; p += at_once) RunGated(product, row, p, std::min(at_once, end - p), worker, task);
    return;
  }
  SetPanels(weight, product.bias, panel, piece.group_panels, task);
  task.out_bf16 = product.out_dtype == DType::kBF16;
  task.out_stride = product.out_stride;
  task.out = OutAt(product, row, panel);
  kernel_(task);
}

// Both products of some panels into fp32 scratch, which stays in the caches, then the activation.
void GemmEngine::RunGated(const GemmParams& product, int row, int panel, int panels, int worker, GemmTask task) const {
  float* const gate = reinterpret_cast<float*>(scratch_[worker].get() + scratch_bytes_);
  float* const up = gate + kGatedFloats;
  // The kernels fetch ahead within the panels of a task only.
  const std::byte* next = static_cast<const PanelMatrix&>(*product.weight).panel(panel);
  for (int i = 0; i < kFetchedBytes; i += 64) __builtin_prefetch(next + i, 0, 2);
  task.out_stride = int64_t{panels} * kPanel;
  task.out = gate;
  SetPanels(static_cast<const PanelMatrix&>(*product.gate), product.gate_bias, panel, panels, task);
  kernel_(task);
  task.out = up;
  SetPanels(static_cast<const PanelMatrix&>(*product.weight), product.bias, panel, panels, task);
  kernel_(task);
  const bool bf16 = product.out_dtype == DType::kBF16;
  for (int r = 0; r < task.rows; ++r) {
    const int64_t at = r * task.out_stride;
    rows_.swiglu(gate + at, up + at, task.cols, {OutAt(product, row + r, panel), bf16});
  }
}

// Points the task at its rows of A: where they are, or at a copy that is widened, padded to whole steps of k, or spread
// over the cache.
void GemmEngine::SetRows(const GemmParams& product, int row, int worker, GemmTask& task) const {
  const int32_t cols = product.weight->cols();
  const int64_t stride = product.a_stride * static_cast<int64_t>(SizeOf(compute_));
  const auto* a = static_cast<const std::byte*>(product.a) + row * stride;
  const bool whole = stored_ == DType::kF32 || cols % kBf16Depth == 0;
  // AMX loads whole cache lines of a row: half the speed when each straddles two.
  const bool spread = amx_ ? stride % kAliasAmx != 0 && (reinterpret_cast<uintptr_t>(a) | stride) % 64 == 0
                           : stride % kAliasVector != 0;
  if (compute_ == stored_ && whole && (spread || task.rows <= 4)) {
    task.a = a;
    task.a_row = stride;
    return;
  }
  std::byte* copy = scratch_[worker].get();
  task.a = copy;
  task.a_row = CopiedRowBytes(cols);
  for (int r = 0; r < task.rows; ++r) {
    std::byte* to = copy + r * task.a_row;
    if (compute_ == stored_) {
      const size_t bytes = cols * SizeOf(compute_);
      std::memcpy(to, a + r * stride, bytes);
      std::memset(to + bytes, 0, task.a_row - bytes);
      continue;
    }
    rows_.widen(a + r * stride, RowType::kBF16, cols, reinterpret_cast<float*>(to));
  }
}

}  // namespace hysparse::cpu
