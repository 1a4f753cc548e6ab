// ModelSpec: everything the engine knows of an architecture, as data, read from a folder's config.json. One layer loop
// (engine/model/transformer) serves every family; a family is only a mapping of its config keys to this struct.
// Immutable after Parse; read by any thread. Source: the HySparse specification, sections 1, 4 and 5.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/dtype.h"

namespace hysparse {

enum class LayerKind : uint8_t { kFull = 0, kSwa = 1, kSparse = 2 };

// Where RoPE's frequencies come from. `inv_freq` is filled in by Parse with all scaling applied.
struct RopeSpec {
  double theta = 10000.0;
  int32_t rotary_dim = 0;        // even; the first rotary_dim dims of a head rotate
  std::string scaling = "none";  // none, linear, llama3, yarn
  float attention_factor = 1.0f;
  std::vector<float> inv_freq;  // [rotary_dim / 2]
};

struct MoeSpec {
  int32_t experts = 0, experts_per_token = 0, width = 0;
  int32_t shared_width = 0;  // n_shared_experts * moe_intermediate_size, 0: none
  bool sigmoid = false, selection_bias = false, normalize = true;
  float routed_scale = 1.0f;
};

struct LayerSpec {
  LayerKind kind = LayerKind::kFull;
  int32_t oracle = -1;                                     // sparse: the full layer whose blocks and K,V it reads
  int32_t heads = 0, kv_heads = 0, qk_dim = 0, v_dim = 0;  // of the layer's own projections
  RopeSpec rope;
  bool sink = false;         // window branch, SWA, or full layer if enabled
  bool sparse_sink = false;  // sparse branch
  bool gate = false;         // window branch of a sparse layer, SWA or full output gate
  bool sparse_gate = false;
  bool moe = false;
  int32_t window = 0;  // SWA and sparse: w; full: 0
  // Sparse selection; granularity, local window and KV source are per layer, so that HySparse2 is a configuration.
  int32_t block = 0, top_blocks = 0;
};

struct ModelSpec {
  std::string model_type, architecture;  // config's own names
  int32_t vocab = 0, hidden = 0, intermediate = 0, max_context = 0;
  float rms_eps = 1e-5f;
  bool tie_embeddings = false;
  bool qkv_bias = false, o_bias = false, mlp_bias = false;
  bool qk_norm = false;
  bool gate_per_head = false;
  float v_scale = 1.0f;
  MoeSpec moe;
  std::vector<LayerSpec> layers;
  DType checkpoint_dtype = DType::kBF16;
  std::vector<int32_t> stop_ids;  // generation_config's eos (else config's); the tokenizer's is added by the server
  int32_t bos_id = -1;

  // generation_config.json's sampling defaults; unset where the file has none.
  struct Defaults {
    float temperature = 1.0f, top_p = 1.0f, min_p = 0.0f, repetition_penalty = 1.0f;
    int32_t top_k = 0;
  } defaults;

  int CountLayers(LayerKind kind) const;
};

// Reads FOLDER/config.json and generation_config.json. InvalidArgument names the file, the key and what to change.
absl::StatusOr<ModelSpec> ReadModelSpec(const std::string& folder);

}  // namespace hysparse
