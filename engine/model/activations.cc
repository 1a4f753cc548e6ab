#include "engine/model/activations.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/result.h"

namespace hysparse {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kLogitBytes = int64_t{64} << 20;  // a slice of logits: up to 256 rows, fewer for a large vocabulary
constexpr int32_t kMinLogitRows = 16, kMaxLogitRows = 256;

// The widest of each kind of row, over the layers.
struct Widths {
  int64_t qkv = 0, attn = 0, mlp = 0, block_ids = 0, block_counts = 0;
  bool sparse = false, moe = false;
};

Widths WidthsOf(const ModelSpec& spec) {
  Widths widths;
  for (const LayerSpec& layer : spec.layers) {
    const int64_t attn = int64_t{layer.heads} * layer.v_dim;
    const int64_t gates = (layer.gate ? 1 : 0) + (layer.sparse_gate ? 1 : 0);
    const int64_t qkv = int64_t{layer.heads + layer.kv_heads} * layer.qk_dim + int64_t{layer.kv_heads} * layer.v_dim +
                        gates * (spec.gate_per_head ? layer.heads : attn);
    widths.qkv = std::max(widths.qkv, qkv);
    widths.attn = std::max(widths.attn, attn);
    widths.mlp = std::max<int64_t>(widths.mlp, layer.moe ? spec.moe.shared_width : spec.intermediate);
    widths.sparse = widths.sparse || layer.kind == LayerKind::kSparse;
    widths.moe = widths.moe || layer.moe;
    if (layer.kind == LayerKind::kFull && layer.block > 0) {
      widths.block_ids = std::max(widths.block_ids, int64_t{layer.kv_heads} * layer.top_blocks);
      widths.block_counts = std::max<int64_t>(widths.block_counts, layer.kv_heads);
    }
  }
  return widths;
}

StepLimits LimitsOf(const ModelSpec& spec, int32_t max_tokens, int32_t max_context) {
  StepLimits limits;
  limits.max_tokens = max_tokens;
  limits.max_context = max_context;
  limits.kv_heads_min = spec.layers[0].kv_heads;
  for (const LayerSpec& layer : spec.layers) {
    limits.max_heads = std::max(limits.max_heads, layer.heads);
    limits.max_qk_dim = std::max(limits.max_qk_dim, layer.qk_dim);
    limits.max_v_dim = std::max(limits.max_v_dim, layer.v_dim);
    limits.kv_heads_min = std::min(limits.kv_heads_min, layer.kv_heads);
    if (layer.block > 0) limits.min_block = std::min(limits.min_block, layer.block);
  }
  limits.hidden = spec.hidden;
  limits.expert_width = spec.moe.width;
  limits.experts_per_token = spec.moe.experts_per_token;
  limits.vocab = spec.vocab;
  return limits;
}

// Hands out aligned ranges of one allocation: a first pass counts, a second one points.
class Carver {
 public:
  explicit Carver(std::byte* base) : base_(base) {}

  template <typename T>
  void Take(T*& pointer, int64_t rows, int64_t row_elements, size_t element_bytes) {
    if (base_ != nullptr) pointer = reinterpret_cast<T*>(base_ + used_);
    int64_t bytes = 0;
    overflow_ = overflow_ || __builtin_mul_overflow(rows, row_elements, &bytes) ||
                __builtin_mul_overflow(bytes, static_cast<int64_t>(element_bytes), &bytes) ||
                __builtin_add_overflow(used_, (bytes + kAlignment - 1) / kAlignment * kAlignment, &used_);
  }
  int64_t used() const { return used_; }
  bool overflow() const { return overflow_; }

 private:
  std::byte* base_;
  int64_t used_ = 0;
  bool overflow_ = false;
};

void Carve(const ModelSpec& spec, DType compute, Carver& carver, Activations& a) {
  const Widths widths = WidthsOf(spec);
  const int64_t rows = a.max_tokens;
  carver.Take(a.residual, rows, spec.hidden, sizeof(float));
  carver.Take(a.delta, rows, spec.hidden, sizeof(float));
  carver.Take(a.x, rows, spec.hidden, SizeOf(compute));
  a.x_fp32 = static_cast<float*>(a.x);
  if (widths.moe && compute != DType::kF32) carver.Take(a.x_fp32, rows, spec.hidden, sizeof(float));
  carver.Take(a.qkv, rows, widths.qkv, sizeof(float));
  carver.Take(a.attn, rows, widths.attn, sizeof(float));
  if (widths.sparse) carver.Take(a.attn_sparse, rows, widths.attn, sizeof(float));
  carver.Take(a.attn_out, rows, widths.attn, SizeOf(compute));
  carver.Take(a.act, rows, widths.mlp, SizeOf(compute));
  carver.Take(a.block_ids, rows, widths.block_ids, sizeof(int32_t));
  carver.Take(a.block_counts, rows, widths.block_counts, sizeof(int32_t));
  carver.Take(a.kept_block_ids, rows, widths.block_ids, sizeof(int32_t));
  carver.Take(a.kept_block_counts, rows, widths.block_counts, sizeof(int32_t));
  carver.Take(a.expert_ids, rows, spec.moe.experts_per_token, sizeof(int32_t));
  carver.Take(a.expert_weights, rows, spec.moe.experts_per_token, sizeof(float));
  carver.Take(a.logits, a.logit_rows, spec.vocab, sizeof(float));
  carver.Take(a.context.workspace, 1, static_cast<int64_t>(a.context.workspace_bytes), 1);
}

}  // namespace

absl::StatusOr<Activations> Activations::Make(const ModelSpec& spec, Backend& backend, int32_t max_tokens,
                                              int32_t max_context) {
  Activations a;
  a.max_tokens = max_tokens;
  const int64_t slice = kLogitBytes / (int64_t{spec.vocab} * static_cast<int64_t>(sizeof(float)));
  a.logit_rows = std::min(max_tokens, static_cast<int32_t>(std::clamp<int64_t>(slice, kMinLogitRows, kMaxLogitRows)));
  a.context.workspace_bytes = backend.WorkspaceBytes(LimitsOf(spec, max_tokens, max_context));
  Carver counter(nullptr);
  Carve(spec, backend.compute_dtype(), counter, a);
  if (counter.overflow())
    return absl::InvalidArgumentError(absl::StrCat("a step of ", max_tokens, " tokens of this model overflows"));
  a.bytes = counter.used();
  HYSPARSE_ASSIGN_OR_RETURN(a.memory, backend.Allocate(static_cast<size_t>(a.bytes)));
  Carver pointers(a.memory.get());
  Carve(spec, backend.compute_dtype(), pointers, a);
  return a;
}

}  // namespace hysparse
