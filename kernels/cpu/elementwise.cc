// Embed, RmsNorm, HeadNorm, Rope, Gate, GatherRows and Copy: which rows, and how they are shared out. The
// arithmetic is in row_ops_body.h. The nanoseconds an element takes are guesses for sharing out only.
#include <cstring>

#include "kernels/cpu/ops.h"
#include "kernels/cpu/share_rows.h"

namespace hysparse::cpu {
namespace {

constexpr double kNormNs = 0.25;
constexpr double kExpNs = 0.5;
constexpr double kRotateNs = 0.15;
constexpr double kAngleNs = 3.0;

RowType TypeOf(DType dtype) {
  return dtype == DType::kF32 ? RowType::kF32 : dtype == DType::kBF16 ? RowType::kBF16 : RowType::kF16;
}

// Row `row` of a dense matrix of `width` columns.
RowOut OutRow(void* out, DType dtype, int64_t row, int64_t width) {
  if (out == nullptr) return {};
  return {static_cast<std::byte*>(out) + row * width * static_cast<int64_t>(SizeOf(dtype)), dtype == DType::kBF16};
}

}  // namespace

const RowOps& RowOpsFor(CpuIsa isa) { return isa >= CpuIsa::kAvx512 ? kRowOpsAvx512 : kRowOpsAvx2; }

void Embed(const Machine& machine, const EmbedParams& p) {
  const int64_t row_bytes = int64_t{p.hidden} * static_cast<int64_t>(SizeOf(p.table_dtype));
  ShareRows(machine.pool, p.num_tokens, p.hidden * kCopyNs, [&](int64_t t) {
    const int32_t id = p.tokens[t] >= 0 && p.tokens[t] < p.vocab ? p.tokens[t] : 0;
    machine.rows.widen(static_cast<const std::byte*>(p.table) + id * row_bytes, TypeOf(p.table_dtype), p.hidden,
                       p.out + t * p.hidden);
  });
}

void RmsNorm(const Machine& machine, const RmsNormParams& p) {
  ShareRows(machine.pool, p.rows, p.hidden * kNormNs, [&](int64_t r) {
    const float* delta = p.delta == nullptr ? nullptr : p.delta + r * p.hidden;
    machine.rows.add_norm(p.residual + r * p.hidden, delta, p.weight, p.hidden, p.eps,
                          OutRow(p.out, p.out_dtype, r, p.hidden));
  });
}

void HeadNorm(const Machine& machine, const HeadNormParams& p) {
  ShareRows(machine.pool, p.num_tokens, p.heads * p.dim * kNormNs, [&](int64_t t) {
    for (int h = 0; h < p.heads; ++h) {
      float* head = p.x + t * p.x_stride + h * p.dim;
      machine.rows.add_norm(head, nullptr, p.weight, p.dim, p.eps, {head, false});
    }
  });
}

void Rope(const Machine& machine, const RopeParams& p) {
  constexpr int kAngles = 128;  // at a time
  ShareRows(machine.pool, p.num_tokens, p.half * (kAngleNs + p.heads * kRotateNs), [&](int64_t t) {
    float cos[kAngles], sin[kAngles];
    for (int j = 0; j < p.half; j += kAngles) {
      const int count = std::min(kAngles, p.half - j);
      machine.rows.rotation(p.position[t], p.inv_freq + j, count, p.scale, cos, sin);
      for (int h = 0; h < p.heads; ++h) {
        float* a = p.x + t * p.x_stride + h * p.dim + j;
        machine.rows.rotate(a, a + p.half, cos, sin, count);
      }
    }
  });
}

void Gate(const Machine& machine, const GateParams& p) {
  const int64_t width = int64_t{p.heads} * p.v_dim;
  const double row_ns = static_cast<double>(width) * (p.per_head ? kCopyNs : p.b == nullptr ? kExpNs : 2 * kExpNs);
  ShareRows(machine.pool, p.num_tokens, row_ns, [&](int64_t t) {
    const float* a = p.a + t * width;
    const float* b = p.b == nullptr ? nullptr : p.b + t * width;
    const float* gate_a = p.gate_a + t * p.gate_a_stride;
    const float* gate_b = p.b == nullptr ? nullptr : p.gate_b + t * p.gate_b_stride;
    if (!p.per_head) {
      machine.rows.gate(a, gate_a, b, gate_b, width, OutRow(p.out, p.out_dtype, t, width));
      return;
    }
    for (int64_t h = 0; h < p.heads; ++h) {
      machine.rows.gate_all(a + h * p.v_dim, gate_a[h], b == nullptr ? nullptr : b + h * p.v_dim,
                            b == nullptr ? 0.0f : gate_b[h], p.v_dim,
                            OutRow(p.out, p.out_dtype, t * p.heads + h, p.v_dim));
    }
  });
}

void GatherRows(const Machine& machine, const GatherRowsParams& p) {
  const int64_t row_bytes = int64_t{p.width} * 4;
  ShareRows(machine.pool, p.rows, p.width * kCopyNs, [&](int64_t r) {
    std::memcpy(static_cast<std::byte*>(p.out) + r * row_bytes,
                static_cast<const std::byte*>(p.x) + p.index[r] * row_bytes, static_cast<size_t>(row_bytes));
  });
}

void Copy(const Machine& machine, const CopyParams& p) {
  constexpr int64_t kPiece = 16384;  // bytes
  ShareRows(machine.pool, (p.bytes + kPiece - 1) / kPiece, kPiece / 4 * kCopyNs, [&](int64_t i) {
    const int64_t begin = i * kPiece;
    std::memcpy(p.to + begin, p.from + begin, static_cast<size_t>(std::min(kPiece, p.bytes - begin)));
  });
}

}  // namespace hysparse::cpu
