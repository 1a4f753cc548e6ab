// One plain struct of parameters per op. Nothing here owns memory: every pointer is device memory (host memory on the
// CPU backend) that outlives the op, and every batch-dependent value is read from arrays, never from the host.
//
// Letters: T tokens of the step, S sequences of the step, R rows, H hidden, N query heads, G KV heads, D qk head dim,
// E v head dim, V vocabulary, K selected blocks. Activations are row-major. "compute dtype" is what the backend was
// made with (--dtype): the dtype of GEMM inputs and of KV pages; everything else is fp32.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"

namespace hysparse {

class PackedMatrix;  // kernels/ops.h

// The ragged batch of one step: prefill chunks and decodes together, tokens of a sequence adjacent and in order.
struct RaggedBatch {
  int32_t num_tokens = 0;                // T
  int32_t num_sequences = 0;             // S
  const int32_t* query_start = nullptr;  // [S+1] first row of each sequence
  const int32_t* sequence = nullptr;     // [T] sequence of each row
  const int32_t* position = nullptr;     // [T] 0-based position of each row in its sequence
};

// One layer's view of one KV class. Page p of this layer starts at base + p * page_stride and holds
// K [G][page_tokens][D], then at v_offset V [G][page_tokens][E]. Token i of sequence s lies in page
// block_table[table_row[s] * table_stride + i / page_tokens - first_page[s]], slot i % page_tokens.
struct PagedKv {
  std::byte* base = nullptr;
  int64_t page_stride = 0;  // bytes
  int64_t v_offset = 0;     // bytes
  int32_t page_tokens = 0;
  int32_t kv_heads = 0;
  int32_t qk_dim = 0;
  int32_t v_dim = 0;
  DType dtype = DType::kF32;
  const int32_t* block_table = nullptr;  // [rows, table_stride] page ids
  int32_t table_stride = 0;
  const int32_t* table_row = nullptr;   // [S] row of the block table; null: row s
  const int32_t* first_page = nullptr;  // [S] logical page of column 0; null: 0

  // Sequence s's logical page p is block_table[table_offset(s) + p].
  int64_t table_offset(int64_t s) const {
    return (table_row != nullptr ? table_row[s] : s) * table_stride - (first_page != nullptr ? first_page[s] : 0);
  }
};

struct EmbedParams {
  const int32_t* tokens = nullptr;  // [T]; an id outside [0, V) reads row 0
  int32_t num_tokens = 0, hidden = 0, vocab = 0;
  const void* table = nullptr;  // [V, H], as in the checkpoint
  DType table_dtype = DType::kF32;
  float* out = nullptr;  // [T, H]
};

// residual += delta (when given), then out = residual / rms(residual) * weight.
struct RmsNormParams {
  float* residual = nullptr;     // [R, hidden]
  const float* delta = nullptr;  // [R, hidden] or null
  const float* weight = nullptr;
  int32_t rows = 0, hidden = 0;
  float eps = 1e-5f;
  void* out = nullptr;  // [R, hidden] of out_dtype; null: only the addition
  DType out_dtype = DType::kF32;
};

// out[r, :] = a[r, :] · Wᵀ + bias; with a gate (SwiGLU) silu(a[r, :] · gateᵀ + gate_bias) ⊙ that. Row r depends on
// a[r, :] alone, bit for bit, whatever `rows` is.
struct GemmParams {
  const void* a = nullptr;  // [R, K] of the compute dtype
  int64_t a_stride = 0;     // elements
  int32_t rows = 0;
  const PackedMatrix* weight = nullptr;  // [N, K]
  const float* bias = nullptr;           // [N] or null
  const PackedMatrix* gate = nullptr;    // [N, K] or null
  const float* gate_bias = nullptr;      // [N] or null
  void* out = nullptr;                   // [R, N]
  DType out_dtype = DType::kF32;
  int64_t out_stride = 0;  // elements
};

// In-place RMSNorm of each head (qk-norm).
struct HeadNormParams {
  float* x = nullptr;  // [T, heads, dim], rows x_stride apart
  int64_t x_stride = 0;
  const float* weight = nullptr;  // [dim]
  int32_t num_tokens = 0, heads = 0, dim = 0;
  float eps = 1e-5f;
};

// In-place rotate-half RoPE on the first 2 * half dims of each head: angle = position * inv_freq[j], cos and sin times
// `scale` (yarn's attention factor, else 1). inv_freq already carries linear, llama3 or yarn scaling.
struct RopeParams {
  float* x = nullptr;  // [T, heads, dim], rows x_stride apart
  int64_t x_stride = 0;
  const int32_t* position = nullptr;  // [T]
  const float* inv_freq = nullptr;    // [half]
  float scale = 1.0f;
  int32_t num_tokens = 0, heads = 0, dim = 0, half = 0;
};

struct KvWriteParams {
  RaggedBatch batch;
  const float* k = nullptr;  // [T, G, D], rows k_stride apart, after RoPE
  const float* v = nullptr;  // [T, G, E], rows v_stride apart
  int64_t k_stride = 0, v_stride = 0;
  float v_scale = 1.0f;  // attention_value_scale
  PagedKv kv;
  const int32_t* first_position = nullptr;  // [S] rows before it are not written; null: every row is
};

// What the oracle chose in one step, consumed by the sparse layers of the same step.
struct BlockSelection {
  int32_t block = 0;          // tokens a block; divides kv.page_tokens or is a multiple of it
  int32_t top = 0;            // K
  int32_t* ids = nullptr;     // [T, G, K] ascending, -1 padded
  int32_t* counts = nullptr;  // [T, G]
};

// The fields that all attention ops share. scale = 1/sqrt(D). The softmax is fp32; the sink is in the denominator only.
struct AttentionParams {
  RaggedBatch batch;
  const float* q = nullptr;  // [T, N, D], rows q_stride apart, after RoPE
  int64_t q_stride = 0;
  int32_t heads = 0;  // N
  float scale = 1.0f;
  PagedKv kv;
  const float* sink = nullptr;  // [N] or null
  void* out = nullptr;          // [T, N, E] dense
  DType out_dtype = DType::kF32;
};

// Causal attention over the whole context (spec section 2). When `select` is given, also the K blocks of highest
// max over the group's heads of (block max logit - lse): ties to the lower block; a sink is part of lse.
struct DenseAttentionParams : AttentionParams {
  const BlockSelection* select = nullptr;
};

struct WindowAttentionParams : AttentionParams {
  int32_t window = 0;                  // keys position - window + 1 … position
  const int32_t* first_key = nullptr;  // [S] of which those before it are masked and not read; null: none
};

// Causal attention over the selected blocks, kv being the oracle layer's cache (spec section 3).
struct SparseAttentionParams : AttentionParams {
  BlockSelection selected;
};

// out = σ(gate_a) ⊙ a [+ σ(gate_b) ⊙ b].
struct GateParams {
  const float* a = nullptr;       // [T, N, E]
  const float* gate_a = nullptr;  // [T, N*E] or [T, N], rows gate_a_stride apart
  const float* b = nullptr;       // [T, N, E] or null
  const float* gate_b = nullptr;
  int64_t gate_a_stride = 0, gate_b_stride = 0;
  bool per_head = false;
  int32_t num_tokens = 0, heads = 0, v_dim = 0;
  void* out = nullptr;  // [T, N, E]
  DType out_dtype = DType::kF32;
};

// Expert choice in fp32: score = sigmoid or softmax of logits; choose the `top` highest of score + bias (ties to the
// lower expert); weigh by the unbiased score, normalised if asked, times routed_scale. Ids ascending.
struct RouterParams {
  const float* x = nullptr;       // [T, H]: the normed input, fp32
  const float* weight = nullptr;  // [experts, H] fp32
  const float* bias = nullptr;    // [experts] or null
  int32_t num_tokens = 0, hidden = 0, experts = 0, top = 0;
  bool sigmoid = false, normalize = true;
  float routed_scale = 1.0f;
  int32_t* ids = nullptr;    // [T, top]
  float* weights = nullptr;  // [T, top]
};

// out[t] (+)= Σ over the row's experts, in ascending id order, of weight · down(silu(gate x) * up x).
struct ExpertsParams {
  const void* x = nullptr;  // [T, H] compute dtype
  int32_t num_tokens = 0, hidden = 0, width = 0, experts = 0, top = 0;
  const int32_t* ids = nullptr;               // [T, top]
  const float* weights = nullptr;             // [T, top]
  const PackedMatrix* const* gate = nullptr;  // [experts] of [width, H]
  const PackedMatrix* const* up = nullptr;    // [experts] of [width, H]
  const PackedMatrix* const* down = nullptr;  // [experts] of [H, width]
  float* out = nullptr;                       // [T, H], overwritten
};

// Copies rows of 4-byte elements: out[r] = x[index[r]]. `out` is another buffer than x.
struct GatherRowsParams {
  const void* x = nullptr;  // [*, width]
  const int32_t* index = nullptr;
  int32_t rows = 0, width = 0;
  void* out = nullptr;
};

// Memory that bytes are copied from and to. Host memory is the backend's own (AllocateHost).
enum class CopyRoute : uint8_t { kDeviceToHost, kDeviceToDevice, kHostToDevice };

// Copies bytes between ranges that do not overlap. Copies of one route run in the order given.
struct CopyParams {
  CopyRoute route = CopyRoute::kDeviceToDevice;
  const std::byte* from = nullptr;
  std::byte* to = nullptr;
  int64_t bytes = 0;
};

// Sampling state of one row, fixed size so that a device can read it.
struct SampleRow {
  float temperature = 1.0f;  // 0: greedy
  int32_t top_k = 0;         // 0: off
  float top_p = 1.0f, min_p = 0.0f;
  float presence_penalty = 0.0f, frequency_penalty = 0.0f, repetition_penalty = 1.0f;
  uint64_t seed = 0;                  // counter-based RNG key: (seed, choice, position)
  uint32_t choice = 0, position = 0;  // position: that of the token to be sampled
  int32_t num_top_logprobs = 0;       // 0…20, written to `top_ids`, `top_logprobs`
  bool want_logprob = false;
  int32_t target = -1;  // >= 0: do not sample, take this token (prompt logprobs)
  // Ranges into the arrays of SampleParams.
  int32_t bias_begin = 0, bias_end = 0;        // logit_bias pairs
  int32_t history_begin = 0, history_end = 0;  // token counts, for the penalties
  int32_t banned_begin = 0, banned_end = 0;    // ids forbidden now (min_tokens)
};

struct TokenBias {
  int32_t token;
  float bias;
};
struct TokenCount {
  int32_t token;
  int32_t prompt;  // occurrences in the prompt: repetition_penalty only
  int32_t output;  // occurrences in the output: all three penalties
};

constexpr int32_t kMaxTopLogprobs = 20;

// Logprobs are the log-softmax of the raw logits, before temperature, penalties and bias.
struct SampleParams {
  const float* logits = nullptr;  // [R, V]
  int32_t rows = 0, vocab = 0;
  const SampleRow* row = nullptr;  // [R]
  const TokenBias* bias = nullptr;
  const TokenCount* history = nullptr;
  const int32_t* banned = nullptr;
  int32_t* token = nullptr;       // [R]
  float* logprob = nullptr;       // [R]
  int32_t* top_ids = nullptr;     // [R, kMaxTopLogprobs]
  float* top_logprobs = nullptr;  // [R, kMaxTopLogprobs]
};

}  // namespace hysparse
