// ModelKeys: the configuration keys of the HySparse specification (section 5), family differences and defaults
// resolved. A family is one function that fills this struct from its own config.json; model_spec.cc checks it in one
// place and unrolls it into a ModelSpec. One thread, at load time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/model/json_reader.h"

namespace hysparse {

// Upper bounds that keep every product of sizes far from overflow and refuse absurd files early.
constexpr int64_t kMaxVocab = int64_t{1} << 24;
constexpr int64_t kMaxHidden = int64_t{1} << 18;
constexpr int64_t kMaxWidth = int64_t{1} << 20;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxHeads = 1024;
constexpr int64_t kMaxHeadDim = 1024;
constexpr int64_t kMaxExperts = 8192;
constexpr int64_t kMaxExpertsInAll = int64_t{1} << 18;  // over the layers
constexpr int64_t kMaxContext = int64_t{1} << 27;
constexpr int64_t kMaxBlock = int64_t{1} << 16;

// RoPE parameters as transformers names them.
struct RopeKeys {
  double theta = 10000.0;
  double partial = 1.0;       // of the head's dims
  std::string type = "none";  // none, linear, llama3, yarn
  std::optional<double> factor;
  double low_freq_factor = 0, high_freq_factor = 0;  // llama3
  double original_context = 0;                       // llama3, yarn
  double beta_fast = 32, beta_slow = 1;              // yarn
  std::optional<double> attention_factor, mscale, mscale_all_dim;
  bool truncate = true;
};

struct ModelKeys {
  int32_t vocab = 0, hidden = 0, intermediate = 0, layers = 0, max_context = 0;
  int32_t heads = 0, kv_heads = 0, head_dim = 0, v_head_dim = 0;
  int32_t swa_heads = 0, swa_kv_heads = 0, swa_head_dim = 0, swa_v_head_dim = 0;
  RopeKeys rope, swa_rope;
  double rms_eps = 1e-5;
  bool tie_embeddings = false;
  bool qkv_bias = false, o_bias = false, mlp_bias = false;
  bool qk_norm = false;
  std::vector<int32_t> pattern;  // [layers] 0 full, 1 SWA, 2 sparse
  int32_t window = 0, block = 64, top_blocks = 16;
  bool swa_sink = false, full_sink = false, sparse_sink = false;
  bool gate_per_head = false, swa_gate = false, full_gate = false;
  double v_scale = 1.0;
  std::vector<int32_t> moe_layers;  // [layers] 0 dense, 1 experts
  int32_t experts = 0, experts_per_token = 0, moe_width = 0, shared_experts = 0;
  bool sigmoid = false, selection_bias = false, normalize = true;
  double routed_scale = 1.0;
};

// Fills `keys` from a family's config.json; false when the family is unknown. What is wrong goes to config.status().
bool ReadFamilyKeys(const std::string& model_type, JsonReader& config, ModelKeys& keys);
// "hysparse, llama, …", for messages.
std::string KnownFamilies();

// RoPE of one layer type ("full_attention", "sliding_attention"), from `rope_parameters` (transformers 5.x, flat or
// nested by layer type), `rope_scaling` (4.x) or the keys `rope_theta` (or `theta_key`) and `partial_rotary_factor`.
struct RopeDefaults {
  std::string layer_type = "full_attention";
  std::string theta_key = "rope_theta";
  double theta = 10000.0, partial = 1.0;
};
RopeKeys ReadRopeKeys(JsonReader& config, const RopeDefaults& defaults, int32_t max_context);

}  // namespace hysparse
