// One function per model family: its config.json in the layouts of transformers 4.x and 5.x, with the family's own
// defaults in transformers for missing keys, to ModelKeys.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/model/model_keys.h"

namespace hysparse {
namespace {

// Defaults of the keys that every family has; 0: required.
struct Defaults {
  int32_t vocab = 0, hidden = 0, intermediate = 0, layers = 0, max_context = 0;
  int32_t heads = 0;
  int32_t kv_heads = 0;  // 0: as many as heads
  int32_t head_dim = 0;  // 0: hidden / heads
  double eps = 1e-6;
};

IntRange Range(int32_t fallback, int64_t max) {
  IntRange range{.fallback = std::nullopt, .min = 1, .max = max};
  if (fallback != 0) range.fallback = fallback;
  return range;
}

void ReadCommon(JsonReader& config, const Defaults& defaults, ModelKeys& keys) {
  keys.vocab = config.Int("vocab_size", Range(defaults.vocab, kMaxVocab));
  keys.hidden = config.Int("hidden_size", Range(defaults.hidden, kMaxHidden));
  keys.intermediate = config.Int("intermediate_size", Range(defaults.intermediate, kMaxWidth));
  keys.layers = config.Int("num_hidden_layers", Range(defaults.layers, kMaxLayers));
  keys.heads = config.Int("num_attention_heads", Range(defaults.heads, kMaxHeads));
  // A missing key is the family's default, an explicit null means "as many as heads".
  const bool as_heads = defaults.kv_heads == 0 || config.IsNull("num_key_value_heads");
  keys.kv_heads = config.Int("num_key_value_heads", Range(as_heads ? keys.heads : defaults.kv_heads, kMaxHeads));
  if (defaults.head_dim == 0 && !config.Has("head_dim") && keys.hidden % keys.heads != 0) {
    config.Fail("hidden_size", absl::StrCat("is ", keys.hidden, ", not a multiple of num_attention_heads (", keys.heads,
                                            "); set head_dim"));
  }
  const int32_t head_dim = defaults.head_dim ? defaults.head_dim : std::max(1, keys.hidden / std::max(1, keys.heads));
  keys.head_dim = config.Int("head_dim", Range(head_dim, kMaxHeadDim));
  keys.v_head_dim = keys.head_dim;
  keys.max_context = config.Int("max_position_embeddings", Range(defaults.max_context, kMaxContext));
  keys.rms_eps = config.Number("rms_norm_eps", {.fallback = defaults.eps, .min = 0.0, .max = 1.0});
  keys.tie_embeddings = config.Bool("tie_word_embeddings", false);
  keys.pattern.assign(static_cast<size_t>(keys.layers), 0);
  keys.moe_layers.assign(static_cast<size_t>(keys.layers), 0);
  const std::string act = config.String("hidden_act", "silu");
  if (act != "silu" && act != "swish") config.Fail("hidden_act", absl::StrCat("'", act, "' is not supported; silu is"));
}

// The window branch is shaped like the full layers unless the family says otherwise.
void CopyToWindowBranch(ModelKeys& keys) {
  keys.swa_heads = keys.heads;
  keys.swa_kv_heads = keys.kv_heads;
  keys.swa_head_dim = keys.head_dim;
  keys.swa_v_head_dim = keys.v_head_dim;
  keys.swa_rope = keys.rope;
}

// layer_types ("full_attention", "sliding_attention") as a pattern; empty when the key is missing.
std::vector<int32_t> LayerTypes(JsonReader& config) {
  std::vector<int32_t> pattern;
  for (const std::string& type : config.StringList("layer_types")) {
    if (type != "full_attention" && type != "sliding_attention") {
      config.Fail("layer_types",
                  absl::StrCat("'", type, "' is not supported; full_attention and sliding_attention are"));
      return {};
    }
    pattern.push_back(type == "sliding_attention" ? 1 : 0);
  }
  return pattern;
}

// A pattern given in the HySparse way, in transformers' way, or both; an empty result means neither.
std::vector<int32_t> ReadPattern(JsonReader& config, int32_t most) {
  std::vector<int32_t> pattern = config.IntList("hybrid_layer_pattern", 0, most);
  const std::vector<int32_t> types = LayerTypes(config);
  if (!pattern.empty() && !types.empty() && pattern != types)
    config.Fail("layer_types", "contradicts hybrid_layer_pattern; remove one of them");
  return pattern.empty() ? types : pattern;
}

// sliding_window where transformers' default for a missing key is `fallback` and null turns it off (0).
int32_t ReadWindow(JsonReader& config, int32_t fallback) {
  if (config.IsNull("sliding_window")) return 0;
  return config.Int("sliding_window", {.fallback = fallback, .min = 1, .max = kMaxContext});
}

void ReadPlainRope(JsonReader& config, ModelKeys& keys) {
  keys.rope = ReadRopeKeys(config, {}, keys.max_context);
  if (keys.rope.partial != 1.0) config.Fail("partial_rotary_factor", "is not supported for this model_type; remove it");
}

void ReadMoe(JsonReader& config, ModelKeys& keys) {
  keys.experts_per_token = config.Int("num_experts_per_tok", {.fallback = 8, .min = 1, .max = kMaxExperts});
  keys.moe_width = config.Int("moe_intermediate_size", {.fallback = 768, .min = 1, .max = kMaxWidth});
}

void ReadLlama(JsonReader& config, ModelKeys& keys) {
  ReadCommon(config,
             {.vocab = 32000, .hidden = 4096, .intermediate = 11008, .layers = 32, .max_context = 2048, .heads = 32},
             keys);
  ReadPlainRope(config, keys);
  keys.qkv_bias = keys.o_bias = config.Bool("attention_bias", false);
  keys.mlp_bias = config.Bool("mlp_bias", false);
  CopyToWindowBranch(keys);
}

void ReadMistral(JsonReader& config, ModelKeys& keys) {
  ReadCommon(config,
             {.vocab = 32000,
              .hidden = 4096,
              .intermediate = 14336,
              .layers = 32,
              .max_context = 131072,
              .heads = 32,
              .kv_heads = 8},
             keys);
  ReadPlainRope(config, keys);
  CopyToWindowBranch(keys);
  keys.window = ReadWindow(config, 4096);
  const std::vector<int32_t> types = LayerTypes(config);
  if (!types.empty()) {
    keys.pattern = types;
  } else if (keys.window > 0) {
    std::fill(keys.pattern.begin(), keys.pattern.end(), 1);
  }
}

// Qwen2 and Qwen3: the layers from max_window_layers on slide, and only when use_sliding_window says so.
void ReadQwenWindow(JsonReader& config, ModelKeys& keys) {
  keys.window = config.Bool("use_sliding_window", false) ? ReadWindow(config, 4096) : 0;
  const std::vector<int32_t> types = LayerTypes(config);
  if (!types.empty()) {
    keys.pattern = types;
    return;
  }
  const int32_t first = config.Int("max_window_layers", {.fallback = 28, .min = 0, .max = kMaxLayers});
  for (int32_t l = first; keys.window > 0 && l < keys.layers; ++l) keys.pattern[static_cast<size_t>(l)] = 1;
}

void ReadQwen2(JsonReader& config, ModelKeys& keys) {
  ReadCommon(config,
             {.vocab = 151936,
              .hidden = 4096,
              .intermediate = 22016,
              .layers = 32,
              .max_context = 32768,
              .heads = 32,
              .kv_heads = 32},
             keys);
  ReadPlainRope(config, keys);
  CopyToWindowBranch(keys);
  keys.qkv_bias = true;
  ReadQwenWindow(config, keys);
}

void ReadQwen3(JsonReader& config, ModelKeys& keys) {
  ReadCommon(config,
             {.vocab = 151936,
              .hidden = 4096,
              .intermediate = 22016,
              .layers = 32,
              .max_context = 32768,
              .heads = 32,
              .kv_heads = 32,
              .head_dim = 128},
             keys);
  ReadPlainRope(config, keys);
  CopyToWindowBranch(keys);
  keys.qkv_bias = keys.o_bias = config.Bool("attention_bias", false);
  keys.qk_norm = true;
  ReadQwenWindow(config, keys);
}

void ReadQwen3Moe(JsonReader& config, ModelKeys& keys) {
  ReadCommon(config,
             {.vocab = 151936,
              .hidden = 2048,
              .intermediate = 6144,
              .layers = 24,
              .max_context = 32768,
              .heads = 32,
              .kv_heads = 4},
             keys);
  ReadPlainRope(config, keys);
  CopyToWindowBranch(keys);
  keys.qkv_bias = keys.o_bias = config.Bool("attention_bias", false);
  keys.qk_norm = true;
  keys.window = config.Bool("use_sliding_window", false) ? ReadWindow(config, 4096) : 0;
  if (keys.window > 0) std::fill(keys.pattern.begin(), keys.pattern.end(), 1);  // no max_window_layers in this family

  ReadMoe(config, keys);
  const char* experts = config.Has("num_experts") ? "num_experts" : "num_local_experts";
  keys.experts = config.Int(experts, {.fallback = 128, .min = 0, .max = kMaxExperts});
  keys.normalize = config.Bool("norm_topk_prob", false);
  const int32_t step = config.Int("decoder_sparse_step", {.fallback = 1, .min = 1, .max = kMaxLayers});
  for (int32_t l = 0; keys.experts > 0 && l < keys.layers; ++l)
    keys.moe_layers[static_cast<size_t>(l)] = (l + 1) % step == 0;
  for (const int32_t l : config.IntList("mlp_only_layers", 0, kMaxLayers)) {
    if (l < keys.layers) keys.moe_layers[static_cast<size_t>(l)] = 0;
  }
}

// What MiMo-V2-Flash and HySparse configs share.
void ReadHybridKeys(JsonReader& config, ModelKeys& keys) {
  if (!config.Has("rms_norm_eps"))
    keys.rms_eps = config.Number("layernorm_epsilon", {.fallback = keys.rms_eps, .min = 0.0, .max = 1.0});
  keys.qkv_bias = config.Bool("attention_bias", false);
  keys.v_scale = config.Number("attention_value_scale", {.fallback = keys.v_scale, .min = -1e6, .max = 1e6});
  keys.swa_heads = config.Int("swa_num_attention_heads", Range(keys.heads, kMaxHeads));
  keys.swa_kv_heads = config.Int("swa_num_key_value_heads", Range(keys.swa_kv_heads, kMaxHeads));
  keys.swa_head_dim = config.Int("swa_head_dim", Range(keys.head_dim, kMaxHeadDim));
  keys.swa_v_head_dim = config.Int("swa_v_head_dim", Range(keys.v_head_dim, kMaxHeadDim));
  keys.swa_sink = config.Bool("add_swa_attention_sink_bias", true);
  keys.full_sink = config.Bool("add_full_attention_sink_bias", false);
}

// Expert keys of the DeepSeek kind, with the given defaults for the router.
void ReadRoutedExperts(JsonReader& config, const std::string& scoring, const std::string& topk, ModelKeys& keys) {
  keys.shared_experts = config.Int("n_shared_experts", {.fallback = 0, .min = 0, .max = kMaxExperts});
  keys.normalize = config.Bool("norm_topk_prob", true);
  keys.routed_scale = config.Number("routed_scaling_factor", {.fallback = 1.0, .min = -1e6, .max = 1e6});
  const std::string score = config.String("scoring_func", scoring);
  if (score != "sigmoid" && score != "softmax")
    config.Fail("scoring_func", absl::StrCat("'", score, "' is not supported; sigmoid and softmax are"));
  const std::string method = config.String("topk_method", topk);
  if (method != "noaux_tc" && method != "greedy")
    config.Fail("topk_method", absl::StrCat("'", method, "' is not supported; noaux_tc and greedy are"));
  keys.sigmoid = score == "sigmoid";
  keys.selection_bias = method == "noaux_tc";
  const int32_t groups = config.Int("n_group", {.fallback = 1, .min = 1, .max = kMaxExperts});
  if (config.Int("topk_group", {.fallback = 1, .min = 1, .max = kMaxExperts}) != groups)
    config.Fail("topk_group", "choosing among groups of experts is not supported; set it to n_group");
}

std::vector<int32_t> ReadMoeLayers(JsonReader& config) {
  std::vector<int32_t> layers = config.IntList("moe_layer_freq", 0, 1);
  if (!layers.empty()) return layers;
  for (const std::string& type : config.StringList("mlp_layer_types")) {
    if (type != "dense" && type != "sparse")
      config.Fail("mlp_layer_types", absl::StrCat("'", type, "' is not supported; dense and sparse are"));
    layers.push_back(type == "sparse" ? 1 : 0);
  }
  return layers;
}

void ReadMimoV2Flash(JsonReader& config, ModelKeys& keys) {
  ReadCommon(config,
             {.vocab = 152576,
              .hidden = 4096,
              .intermediate = 16384,
              .layers = 48,
              .max_context = 131072,
              .heads = 64,
              .kv_heads = 4,
              .head_dim = 192,
              .eps = 1e-5},
             keys);
  keys.v_head_dim = config.Int("v_head_dim", Range(128, kMaxHeadDim));
  keys.v_scale = config.IsNull("attention_value_scale") ? 1.0 : 0.707;
  keys.swa_kv_heads = 2 * keys.kv_heads;
  ReadHybridKeys(config, keys);
  keys.rope = ReadRopeKeys(config, {.theta = 5e6, .partial = 0.334}, keys.max_context);
  keys.swa_rope = ReadRopeKeys(
      config, {.layer_type = "sliding_attention", .theta_key = "swa_rope_theta", .theta = 1e4, .partial = 0.334},
      keys.max_context);

  // transformers rounds an odd count of rotating dims up, this project down: no checkpoint is known to need either.
  for (const auto& [dim, rope] : {std::pair(keys.head_dim, keys.rope), std::pair(keys.swa_head_dim, keys.swa_rope)}) {
    if (static_cast<int32_t>(dim * rope.partial) % 2 != 0)
      config.Fail("partial_rotary_factor", absl::StrCat("of ", dim, " dims is an odd number; an even one is expected"));
  }

  // Full where l = 0 or (l + 1) % 6 = 0; experts everywhere but in layer 0.
  for (int32_t l = 0; l < keys.layers; ++l) {
    keys.pattern[static_cast<size_t>(l)] = l != 0 && (l + 1) % 6 != 0;
    keys.moe_layers[static_cast<size_t>(l)] = l != 0;
  }
  if (auto pattern = ReadPattern(config, 1); !pattern.empty()) keys.pattern = pattern;
  if (auto layers = ReadMoeLayers(config); !layers.empty()) keys.moe_layers = layers;
  // transformers: `sliding_window_size` counts the tokens before the query, `sliding_window` the query as well.
  keys.window = config.Has("sliding_window_size")
                    ? config.Int("sliding_window_size", {.fallback = 128, .min = 1, .max = kMaxContext - 1}) + 1
                    : config.Int("sliding_window", {.fallback = 129, .min = 1, .max = kMaxContext});
  keys.experts_per_token = config.Int("num_experts_per_tok", {.fallback = 8, .min = 1, .max = kMaxExperts});
  keys.moe_width = config.Int("moe_intermediate_size", {.fallback = 2048, .min = 1, .max = kMaxWidth});
  const char* experts = config.Has("n_routed_experts") ? "n_routed_experts" : "num_local_experts";
  keys.experts = config.Int(experts, {.fallback = 256, .min = 1, .max = kMaxExperts});
  ReadRoutedExperts(config, "sigmoid", "noaux_tc", keys);
}

void ReadSelection(JsonReader& config, ModelKeys& keys) {
  const char* block = config.Has("sparse_block_size") ? "sparse_block_size" : "hy_sparse_block_size";
  keys.block = config.Int(block, {.fallback = 64, .min = 1, .max = kMaxBlock});
  if (!config.Has("sparse_topk_tokens") && config.Has("hy_sparse_topk")) {
    keys.top_blocks = config.Int("hy_sparse_topk", {.fallback = 16, .min = 1, .max = kMaxBlock});  // counted in blocks
    return;
  }
  const int32_t tokens = config.Int("sparse_topk_tokens", {.fallback = 1024, .min = 1, .max = kMaxContext});
  if (tokens < keys.block) {
    config.Fail("sparse_topk_tokens", absl::StrCat("is ", tokens, ", less than one block of ", keys.block, " tokens"));
  }
  keys.top_blocks = std::max(1, tokens / std::max(1, keys.block));
}

void ReadHysparse(JsonReader& config, ModelKeys& keys) {
  ReadCommon(config, {.eps = 1e-5}, keys);
  keys.v_head_dim = config.Int("v_head_dim", Range(keys.head_dim, kMaxHeadDim));
  CopyToWindowBranch(keys);
  ReadHybridKeys(config, keys);
  keys.rope = ReadRopeKeys(config, {}, keys.max_context);
  const RopeDefaults swa = {.layer_type = "sliding_attention",
                            .theta_key = "swa_rope_theta",
                            .theta = keys.rope.theta,
                            .partial = keys.rope.partial};
  keys.swa_rope = ReadRopeKeys(config, swa, keys.max_context);
  keys.qk_norm = config.Bool("use_qk_norm", false);
  if (auto pattern = ReadPattern(config, 2); !pattern.empty()) keys.pattern = pattern;
  keys.window = config.Int("sliding_window", {.fallback = 128, .min = 1, .max = kMaxContext});
  ReadSelection(config, keys);
  keys.sparse_sink = config.Bool("add_sparse_attention_sink_bias", true);
  const std::string gate = config.String("gate_granularity", "channel");
  if (gate != "channel" && gate != "head")
    config.Fail("gate_granularity", absl::StrCat("'", gate, "' is not supported; channel and head are"));
  keys.gate_per_head = gate == "head";
  keys.swa_gate = config.Bool("add_swa_output_gate", false);
  keys.full_gate = config.Bool("add_full_output_gate", false);

  if (auto layers = ReadMoeLayers(config); !layers.empty()) keys.moe_layers = layers;
  if (std::count(keys.moe_layers.begin(), keys.moe_layers.end(), 1) == 0) return;
  keys.experts = config.Int("n_routed_experts", Range(0, kMaxExperts));
  keys.experts_per_token = config.Int("num_experts_per_tok", Range(0, kMaxExperts));
  keys.moe_width = config.Int("moe_intermediate_size", Range(0, kMaxWidth));
  ReadRoutedExperts(config, "softmax", "greedy", keys);
}

struct Family {
  const char* model_type;
  void (*read)(JsonReader&, ModelKeys&);
};
constexpr Family kFamilies[] = {
    {"hysparse", ReadHysparse}, {"llama", ReadLlama},        {"mistral", ReadMistral},           {"qwen2", ReadQwen2},
    {"qwen3", ReadQwen3},       {"qwen3_moe", ReadQwen3Moe}, {"mimo_v2_flash", ReadMimoV2Flash},
};

}  // namespace

bool ReadFamilyKeys(const std::string& model_type, JsonReader& config, ModelKeys& keys) {
  for (const Family& family : kFamilies) {
    if (model_type != family.model_type) continue;
    family.read(config, keys);
    return true;
  }
  return false;
}

std::string KnownFamilies() {
  std::string names;
  for (const Family& family : kFamilies) absl::StrAppend(&names, names.empty() ? "" : ", ", family.model_type);
  return names;
}

}  // namespace hysparse
