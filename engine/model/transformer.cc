#include "engine/model/transformer.h"

#include <cmath>
#include <utility>

#include "engine/base/result.h"

namespace hysparse {
namespace {

// Offsets, in elements, of the parts of a row of the fused projection.
struct QkvRow {
  int64_t k, v, gate, sparse_gate, width;
};

QkvRow RowOf(const ModelSpec& spec, const LayerSpec& layer) {
  QkvRow row;
  row.k = int64_t{layer.heads} * layer.qk_dim;
  row.v = row.k + int64_t{layer.kv_heads} * layer.qk_dim;
  row.gate = row.v + int64_t{layer.kv_heads} * layer.v_dim;
  const int64_t gate = int64_t{layer.heads} * (spec.gate_per_head ? 1 : layer.v_dim);
  row.sparse_gate = row.gate + (layer.gate ? gate : 0);
  row.width = row.sparse_gate + (layer.sparse_gate ? gate : 0);
  return row;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Transformer>> Transformer::Make(const ModelSpec& spec, const Weights& weights,
                                                               Backend& backend, int32_t max_tokens,
                                                               int32_t max_context) {
  HYSPARSE_ASSIGN_OR_RETURN(Activations activations, Activations::Make(spec, backend, max_tokens, max_context));
  return std::unique_ptr<Transformer>(new Transformer(spec, weights, backend, std::move(activations)));
}

void Transformer::Forward(StepInputs in) {
  if (in.batch.num_tokens == 0) return;
  Embed(in);
  const float* delta = nullptr;
  for (size_t l = 0; l < spec_.layers.size(); ++l) {
    if (!in.shrinks.empty() && in.shrinks.front().layer == l) {
      UpdateResidual(delta, nullptr, in.batch.num_tokens);
      delta = nullptr;
      Shrink(in.shrinks.front());
      in.batch = in.shrinks.front().batch;
      in.shrinks = in.shrinks.subspan(1);
      if (in.batch.num_tokens == 0) return;
    }
    UpdateResidual(delta, weights_.layers[l].input_norm.get(), in.batch.num_tokens);
    Attend(in, l);
    UpdateResidual(a_.delta, weights_.layers[l].post_norm.get(), in.batch.num_tokens, spec_.layers[l].moe);
    Mlp(l, in.batch.num_tokens);
    delta = a_.delta;
  }
  UpdateResidual(delta, nullptr, in.batch.num_tokens);
}

void Transformer::Shrink(const ShrunkBatch& to) {
  Gather(a_.residual, to, spec_.hidden, a_.delta);
  std::swap(a_.residual, a_.delta);
  size_t reader = to.layer;
  while (reader < spec_.layers.size() && spec_.layers[reader].kind != LayerKind::kSparse) ++reader;
  if (reader == spec_.layers.size()) return;
  const auto oracle = static_cast<size_t>(spec_.layers[reader].oracle);
  if (oracle >= to.layer) return;  // it has not chosen yet
  const LayerSpec& layer = spec_.layers[oracle];
  Gather(a_.block_ids, to, layer.kv_heads * layer.top_blocks, a_.kept_block_ids);
  Gather(a_.block_counts, to, layer.kv_heads, a_.kept_block_counts);
  std::swap(a_.block_ids, a_.kept_block_ids);
  std::swap(a_.block_counts, a_.kept_block_counts);
}

void Transformer::Gather(const void* x, const ShrunkBatch& to, int32_t width, void* out) {
  GatherRowsParams p;
  p.x = x;
  p.index = to.keep;
  p.rows = to.batch.num_tokens;
  p.width = width;
  p.out = out;
  backend_.GatherRows(a_.context, p);
}

const float* Transformer::Logits(const int32_t* index, int32_t count) {
  GatherRowsParams gather;
  gather.x = a_.residual;
  gather.index = index;
  gather.rows = count;
  gather.width = spec_.hidden;
  gather.out = a_.delta;
  backend_.GatherRows(a_.context, gather);
  RmsNormParams norm;
  norm.residual = a_.delta;
  norm.weight = weights_.final_norm.get();
  norm.rows = count;
  norm.hidden = spec_.hidden;
  norm.eps = spec_.rms_eps;
  norm.out = a_.x;
  norm.out_dtype = backend_.compute_dtype();
  backend_.RmsNorm(a_.context, norm);
  Gemm(*weights_.lm_head, nullptr, a_.x, count, a_.logits);
  return a_.logits;
}

void Transformer::Embed(const StepInputs& in) {
  EmbedParams p;
  p.tokens = in.tokens;
  p.num_tokens = in.batch.num_tokens;
  p.hidden = spec_.hidden;
  p.vocab = spec_.vocab;
  p.table = weights_.embedding.get();
  p.table_dtype = weights_.embedding_dtype;
  p.out = a_.residual;
  backend_.Embed(a_.context, p);
}

void Transformer::UpdateResidual(const float* delta, const float* norm, int32_t rows, bool fp32_too) {
  RmsNormParams p;
  p.residual = a_.residual;
  p.delta = delta;
  p.weight = norm;
  p.rows = rows;
  p.hidden = spec_.hidden;
  p.eps = spec_.rms_eps;
  p.out = norm == nullptr ? nullptr : a_.x;
  p.out_dtype = backend_.compute_dtype();
  backend_.RmsNorm(a_.context, p);
  if (!fp32_too || backend_.compute_dtype() == DType::kF32) return;
  p.delta = nullptr;
  p.out = a_.x_fp32;
  p.out_dtype = DType::kF32;
  backend_.RmsNorm(a_.context, p);
}

void Transformer::Gemm(const PackedMatrix& weight, const float* bias, const void* a, int32_t rows, float* out) {
  GemmParams p;
  p.a = a;
  p.a_stride = weight.cols();
  p.rows = rows;
  p.weight = &weight;
  p.bias = bias;
  p.out = out;
  p.out_dtype = DType::kF32;
  p.out_stride = weight.rows();
  backend_.Gemm(a_.context, p);
}

// q, k and v of every token, normed and rotated; K and V into the layer's pages.
void Transformer::Project(const StepInputs& in, size_t l) {
  const LayerSpec& layer = spec_.layers[l];
  const LayerWeights& w = weights_.layers[l];
  const QkvRow row = RowOf(spec_, layer);
  const int32_t rows = in.batch.num_tokens;
  Gemm(*w.qkv, w.qkv_bias.get(), a_.x, rows, a_.qkv);
  if (spec_.qk_norm) {
    HeadNormParams norm;
    norm.x = a_.qkv;
    norm.x_stride = row.width;
    norm.weight = w.q_norm.get();
    norm.num_tokens = rows;
    norm.heads = layer.heads;
    norm.dim = layer.qk_dim;
    norm.eps = spec_.rms_eps;
    backend_.HeadNorm(a_.context, norm);
    norm.x = a_.qkv + row.k;
    norm.weight = w.k_norm.get();
    norm.heads = layer.kv_heads;
    backend_.HeadNorm(a_.context, norm);
  }
  if (layer.rope.rotary_dim > 0) {
    RopeParams rope;  // k's heads follow q's in the row: one call turns both
    rope.x = a_.qkv;
    rope.x_stride = row.width;
    rope.position = in.batch.position;
    rope.inv_freq = w.inv_freq.get();
    rope.scale = layer.rope.attention_factor;
    rope.num_tokens = rows;
    rope.heads = layer.heads + layer.kv_heads;
    rope.dim = layer.qk_dim;
    rope.half = layer.rope.rotary_dim / 2;
    backend_.Rope(a_.context, rope);
  }
  KvWriteParams write;
  write.batch = in.batch;
  write.k = a_.qkv + row.k;
  write.v = a_.qkv + row.v;
  write.k_stride = write.v_stride = row.width;
  write.v_scale = spec_.v_scale;
  write.kv = in.kv[l];
  if (layer.kind == LayerKind::kFull) write.first_position = in.write_from;
  backend_.KvWrite(a_.context, write);
}

// delta = W_o · attention(x).
void Transformer::Attend(const StepInputs& in, size_t l) {
  const LayerSpec& layer = spec_.layers[l];
  const LayerWeights& w = weights_.layers[l];
  Project(in, l);
  // A gate works on fp32; without one the attention writes what o_proj reads.
  void* out = layer.gate ? static_cast<void*>(a_.attn) : a_.attn_out;
  const DType out_dtype = layer.gate ? DType::kF32 : backend_.compute_dtype();
  if (layer.kind == LayerKind::kFull) {
    AttendFull(in, l, out, out_dtype);
  } else {
    AttendWindow(in, l, out, out_dtype);
    if (layer.kind == LayerKind::kSparse) AttendSparse(in, l);
  }
  if (layer.gate) Gate(in, l);
  Gemm(*w.o, w.o_bias.get(), a_.attn_out, in.batch.num_tokens, a_.delta);
}

AttentionParams Transformer::CommonAttention(const StepInputs& in, size_t l, const PagedKv& kv) const {
  const LayerSpec& layer = spec_.layers[l];
  AttentionParams p;
  p.batch = in.batch;
  p.q = a_.qkv;
  p.q_stride = RowOf(spec_, layer).width;
  p.heads = layer.heads;
  p.scale = 1.0f / std::sqrt(static_cast<float>(layer.qk_dim));
  p.kv = kv;
  return p;
}

BlockSelection Transformer::Selection(const LayerSpec& oracle) const {
  BlockSelection selection;
  selection.block = oracle.block;
  selection.top = oracle.top_blocks;
  selection.ids = a_.block_ids;
  selection.counts = a_.block_counts;
  return selection;
}

void Transformer::AttendFull(const StepInputs& in, size_t l, void* out, DType out_dtype) {
  const LayerSpec& layer = spec_.layers[l];
  DenseAttentionParams p;
  static_cast<AttentionParams&>(p) = CommonAttention(in, l, in.kv[l]);
  p.sink = weights_.layers[l].sink.get();
  p.out = out;
  p.out_dtype = out_dtype;
  const BlockSelection selection = Selection(layer);
  if (layer.block > 0) p.select = &selection;  // an oracle: sparse layers follow
  backend_.DenseAttention(a_.context, p);
  if (trace_ != nullptr && layer.block > 0) TraceBlocks(l, in.batch.num_tokens);
}

void Transformer::AttendWindow(const StepInputs& in, size_t l, void* out, DType out_dtype) {
  WindowAttentionParams p;
  static_cast<AttentionParams&>(p) = CommonAttention(in, l, in.kv[l]);
  p.sink = weights_.layers[l].sink.get();
  p.window = spec_.layers[l].window;
  p.first_key = in.window_from;
  p.out = out;
  p.out_dtype = out_dtype;
  backend_.WindowAttention(a_.context, p);
}

void Transformer::AttendSparse(const StepInputs& in, size_t l) {
  const auto oracle = static_cast<size_t>(spec_.layers[l].oracle);
  SparseAttentionParams p;
  static_cast<AttentionParams&>(p) = CommonAttention(in, l, in.kv[oracle]);
  p.sink = weights_.layers[l].sparse_sink.get();
  p.selected = Selection(spec_.layers[oracle]);
  p.out = a_.attn_sparse;
  p.out_dtype = DType::kF32;
  backend_.SparseAttention(a_.context, p);
}

void Transformer::Gate(const StepInputs& in, size_t l) {
  const LayerSpec& layer = spec_.layers[l];
  const QkvRow row = RowOf(spec_, layer);
  GateParams p;
  p.a = a_.attn;
  p.gate_a = a_.qkv + row.gate;
  p.gate_a_stride = row.width;
  if (layer.sparse_gate) {
    p.b = a_.attn_sparse;
    p.gate_b = a_.qkv + row.sparse_gate;
    p.gate_b_stride = row.width;
  }
  p.per_head = spec_.gate_per_head;
  p.num_tokens = in.batch.num_tokens;
  p.heads = layer.heads;
  p.v_dim = layer.v_dim;
  p.out = a_.attn_out;
  p.out_dtype = backend_.compute_dtype();
  backend_.Gate(a_.context, p);
}

// delta = mlp(x).
void Transformer::Mlp(size_t l, int32_t rows) {
  const LayerWeights& w = weights_.layers[l];
  if (!spec_.layers[l].moe) return SwiGlu(w, rows);
  Experts(l, rows);
  if (w.up == nullptr) return;
  UpdateResidual(a_.delta, nullptr, rows);  // the routed experts' part; x stays
  SwiGlu(w, rows);
}

// delta = down(silu(gate x) * up x), of a dense layer or of the shared experts.
void Transformer::SwiGlu(const LayerWeights& w, int32_t rows) {
  GemmParams p;
  p.a = a_.x;
  p.a_stride = spec_.hidden;
  p.rows = rows;
  p.weight = w.up.get();
  p.bias = w.up_bias.get();
  p.gate = w.gate.get();
  p.gate_bias = w.gate_bias.get();
  p.out = a_.act;
  p.out_dtype = backend_.compute_dtype();
  p.out_stride = w.up->rows();
  backend_.Gemm(a_.context, p);
  Gemm(*w.down, w.down_bias.get(), a_.act, rows, a_.delta);
}

void Transformer::Experts(size_t l, int32_t rows) {
  const LayerWeights& w = weights_.layers[l];
  const MoeSpec& moe = spec_.moe;
  RouterParams route;
  route.x = a_.x_fp32;
  route.weight = w.router.get();
  route.bias = w.router_bias.get();
  route.num_tokens = rows;
  route.hidden = spec_.hidden;
  route.experts = moe.experts;
  route.top = moe.experts_per_token;
  route.sigmoid = moe.sigmoid;
  route.normalize = moe.normalize;
  route.routed_scale = moe.routed_scale;
  route.ids = a_.expert_ids;
  route.weights = a_.expert_weights;
  backend_.Router(a_.context, route);
  if (trace_ != nullptr) TraceExperts(l, rows);
  ExpertsParams p;
  p.x = a_.x;
  p.num_tokens = rows;
  p.hidden = spec_.hidden;
  p.width = moe.width;
  p.experts = moe.experts;
  p.top = moe.experts_per_token;
  p.ids = a_.expert_ids;
  p.weights = a_.expert_weights;
  p.gate = w.expert_gate.data();
  p.up = w.expert_up.data();
  p.down = w.expert_down.data();
  p.out = a_.delta;
  backend_.Experts(a_.context, p);
}

void Transformer::TraceBlocks(size_t l, int32_t rows) {
  const LayerSpec& layer = spec_.layers[l];
  const size_t pairs = static_cast<size_t>(rows) * static_cast<size_t>(layer.kv_heads);
  std::vector<int32_t> counts(pairs), ids(pairs * static_cast<size_t>(layer.top_blocks));
  backend_.Download(counts.data(), a_.block_counts, counts.size() * sizeof(int32_t));
  backend_.Download(ids.data(), a_.block_ids, ids.size() * sizeof(int32_t));
  trace_->OnBlocks(static_cast<int32_t>(l), layer.kv_heads, layer.top_blocks, ids, counts);
}

void Transformer::TraceExperts(size_t l, int32_t rows) {
  std::vector<int32_t> ids(static_cast<size_t>(rows) * static_cast<size_t>(spec_.moe.experts_per_token));
  backend_.Download(ids.data(), a_.expert_ids, ids.size() * sizeof(int32_t));
  trace_->OnExperts(static_cast<int32_t>(l), spec_.moe.experts_per_token, ids);
}

}  // namespace hysparse
