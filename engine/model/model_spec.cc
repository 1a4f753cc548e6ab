#include "engine/model/model_spec.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "engine/base/file.h"
#include "engine/base/result.h"
#include "engine/model/model_keys.h"
#include "engine/model/rope.h"

namespace hysparse {
namespace {

using nlohmann::json;

constexpr size_t kMaxConfigBytes = size_t{16} << 20;

absl::StatusOr<json> ReadJsonObject(const std::string& path) {
  HYSPARSE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxConfigBytes));
  HYSPARSE_ASSIGN_OR_RETURN(json value, ParseJson(text, path));
  if (!value.is_object()) return absl::InvalidArgumentError(absl::StrCat(path, ": a JSON object is expected"));
  return value;
}

// Heads of one kind of layer: every query head needs a KV head, and RoPE rotates pairs.
void CheckHeads(JsonReader& config, const char* key, int32_t heads, int32_t kv_heads, int32_t head_dim,
                const RopeKeys& rope) {
  if (heads % kv_heads != 0)
    config.Fail(key, absl::StrCat("is ", kv_heads, ", which does not divide the ", heads, " attention heads"));
  if (rope.partial == 1.0 && head_dim % 2 != 0)
    config.Fail("head_dim", absl::StrCat("is ", head_dim, "; RoPE needs an even number of dims"));
}

void CheckLengths(JsonReader& config, const ModelKeys& keys) {
  const auto check = [&](const char* key, const std::vector<int32_t>& list) {
    if (list.size() != static_cast<size_t>(keys.layers))
      config.Fail(config.Has(key)                             ? key
                  : key == std::string_view("moe_layer_freq") ? "mlp_layer_types"
                                                              : "layer_types",
                  absl::StrCat("lists ", list.size(), " layers, but num_hidden_layers is ", keys.layers));
  };
  check("hybrid_layer_pattern", keys.pattern);
  check("moe_layer_freq", keys.moe_layers);
}

void CheckAttention(JsonReader& config, const ModelKeys& keys) {
  const auto has = [&](LayerKind kind) {
    return std::count(keys.pattern.begin(), keys.pattern.end(), static_cast<int32_t>(kind)) > 0;
  };
  if (has(LayerKind::kFull))
    CheckHeads(config, "num_key_value_heads", keys.heads, keys.kv_heads, keys.head_dim, keys.rope);
  if (has(LayerKind::kSparse)) {
    // A sparse layer has no oracle when no full layer comes before it.
    const auto first = std::find(keys.pattern.begin(), keys.pattern.end(), static_cast<int32_t>(LayerKind::kSparse));
    if (std::find(keys.pattern.begin(), first, static_cast<int32_t>(LayerKind::kFull)) == first)
      config.Fail("hybrid_layer_pattern", absl::StrCat("layer ", first - keys.pattern.begin(),
                                                       " is sparse (2) but no full layer (0) comes before it to choose "
                                                       "its blocks; make an earlier layer full"));
    CheckHeads(config, "swa_num_key_value_heads", keys.heads, keys.swa_kv_heads, keys.head_dim, keys.rope);
  }
  if (has(LayerKind::kSwa))
    CheckHeads(config, "swa_num_key_value_heads", keys.swa_heads, keys.swa_kv_heads, keys.swa_head_dim, keys.swa_rope);
  if ((has(LayerKind::kSwa) || has(LayerKind::kSparse)) && keys.window == 0)
    config.Fail("sliding_window", "is off, but the pattern has layers that need it; set it or make them full");
}

void CheckMoe(JsonReader& config, const ModelKeys& keys) {
  const int64_t layers = std::count(keys.moe_layers.begin(), keys.moe_layers.end(), 1);
  if (layers == 0) return;
  if (keys.experts_per_token > keys.experts)
    config.Fail("num_experts_per_tok",
                absl::StrCat("is ", keys.experts_per_token, ", more than the ", keys.experts, " experts"));
  if (layers * keys.experts > kMaxExpertsInAll)
    config.Fail("n_routed_experts",
                absl::StrCat("is ", keys.experts, " in ", layers, " layers: more than ", kMaxExpertsInAll, " in all"));
  if (int64_t{keys.shared_experts} * keys.moe_width > kMaxWidth)
    config.Fail("n_shared_experts", absl::StrCat("times moe_intermediate_size is more than ", kMaxWidth));
}

void CheckUnsupported(JsonReader& config) {
  if (std::optional<JsonReader> quantization = config.Object("quantization_config")) {
    const std::string method = quantization->String("quant_method", "unknown");
    config.Fail("quantization_config", absl::StrCat("'", method,
                                                    "' weights are not supported; use a checkpoint in BF16, "
                                                    "F16 or F32 without this key"));
  }
}

LayerSpec MakeLayer(const ModelKeys& keys, LayerKind kind, const RopeSpec& rope, const RopeSpec& swa_rope) {
  const bool swa = kind == LayerKind::kSwa, sparse = kind == LayerKind::kSparse;
  LayerSpec layer;
  layer.kind = kind;
  layer.heads = swa ? keys.swa_heads : keys.heads;
  layer.kv_heads = swa || sparse ? keys.swa_kv_heads : keys.kv_heads;
  layer.qk_dim = swa ? keys.swa_head_dim : keys.head_dim;
  layer.v_dim = swa ? keys.swa_v_head_dim : keys.v_head_dim;
  layer.rope = swa ? swa_rope : rope;
  layer.sink = swa || sparse ? keys.swa_sink : keys.full_sink;
  layer.sparse_sink = sparse && keys.sparse_sink;
  layer.gate = sparse || (swa ? keys.swa_gate : keys.full_gate);
  layer.sparse_gate = sparse;
  layer.window = swa || sparse ? keys.window : 0;
  layer.block = sparse ? keys.block : 0;
  // No context has more blocks than this; the selection buffers are sized by it.
  const int32_t blocks = (keys.max_context + keys.block - 1) / keys.block;
  layer.top_blocks = sparse ? std::min(keys.top_blocks, blocks) : 0;
  return layer;
}

void MakeLayers(const ModelKeys& keys, ModelSpec& spec) {
  const RopeSpec rope = MakeRope(keys.rope, keys.head_dim, keys.max_context);
  const RopeSpec swa_rope = MakeRope(keys.swa_rope, keys.swa_head_dim, keys.max_context);
  int32_t oracle = -1;
  for (size_t l = 0; l < keys.pattern.size(); ++l) {
    const auto kind = static_cast<LayerKind>(keys.pattern[l]);
    LayerSpec layer = MakeLayer(keys, kind, rope, swa_rope);
    layer.moe = keys.moe_layers[l] != 0;
    if (kind == LayerKind::kFull) oracle = static_cast<int32_t>(l);
    if (kind == LayerKind::kSparse) {
      layer.oracle = oracle;
      LayerSpec& full = spec.layers[static_cast<size_t>(oracle)];
      full.block = layer.block;
      full.top_blocks = layer.top_blocks;
    }
    spec.layers.push_back(std::move(layer));
  }
}

void MakeMoe(const ModelKeys& keys, ModelSpec& spec) {
  if (std::count(keys.moe_layers.begin(), keys.moe_layers.end(), 1) == 0) return;
  spec.moe.experts = keys.experts;
  spec.moe.experts_per_token = keys.experts_per_token;
  spec.moe.width = keys.moe_width;
  spec.moe.shared_width = keys.shared_experts * keys.moe_width;
  spec.moe.sigmoid = keys.sigmoid;
  spec.moe.selection_bias = keys.selection_bias;
  spec.moe.normalize = keys.normalize;
  spec.moe.routed_scale = static_cast<float>(keys.routed_scale);
}

DType CheckpointDType(JsonReader& config) {
  const std::string name = config.String(config.Has("dtype") ? "dtype" : "torch_dtype", "bfloat16");
  return name == "float32" ? DType::kF32 : name == "float16" ? DType::kF16 : DType::kBF16;
}

ModelSpec MakeSpec(const ModelKeys& keys, JsonReader& config) {
  ModelSpec spec;
  const std::vector<std::string> architectures = config.StringList("architectures");
  if (!architectures.empty()) spec.architecture = architectures[0];
  spec.vocab = keys.vocab;
  spec.hidden = keys.hidden;
  spec.intermediate = keys.intermediate;
  spec.max_context = keys.max_context;
  spec.rms_eps = static_cast<float>(keys.rms_eps);
  spec.tie_embeddings = keys.tie_embeddings;
  spec.qkv_bias = keys.qkv_bias;
  spec.o_bias = keys.o_bias;
  spec.mlp_bias = keys.mlp_bias;
  spec.qk_norm = keys.qk_norm;
  spec.gate_per_head = keys.gate_per_head;
  spec.v_scale = static_cast<float>(keys.v_scale);
  spec.checkpoint_dtype = CheckpointDType(config);
  MakeMoe(keys, spec);
  MakeLayers(keys, spec);
  return spec;
}

// The ids that end generation: one the model cannot produce is no stop id.
std::vector<int32_t> StopIds(JsonReader& file, int32_t vocab) {
  std::vector<int32_t> ids = file.IntOrList("eos_token_id", -1, std::numeric_limits<int32_t>::max());
  std::erase_if(ids, [&](int32_t id) { return id < 0 || id >= vocab; });
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

absl::Status ReadGenerationConfig(const std::string& folder, JsonReader& config, ModelSpec& spec) {
  spec.stop_ids = StopIds(config, spec.vocab);
  spec.bos_id = config.Int("bos_token_id", {.fallback = -1, .min = -1});
  const std::string path = folder + "/generation_config.json";
  absl::StatusOr<json> object = ReadJsonObject(path);
  if (absl::IsNotFound(object.status())) return config.status();
  if (!object.ok()) return object.status();
  JsonReader generation(*object, path);
  if (generation.Has("eos_token_id")) spec.stop_ids = StopIds(generation, spec.vocab);
  ModelSpec::Defaults& defaults = spec.defaults;
  const auto number = [&](const char* key, float fallback, double max) {
    return static_cast<float>(generation.Number(key, {.fallback = fallback, .min = 0.0, .max = max}));
  };
  defaults.temperature = number("temperature", defaults.temperature, 100.0);
  defaults.top_p = number("top_p", defaults.top_p, 1.0);
  defaults.min_p = number("min_p", defaults.min_p, 1.0);
  defaults.repetition_penalty = number("repetition_penalty", defaults.repetition_penalty, 100.0);
  defaults.top_k = generation.Int("top_k", {.fallback = defaults.top_k, .min = 0});
  return generation.ok() ? config.status() : generation.status();
}

}  // namespace

int ModelSpec::CountLayers(LayerKind kind) const {
  return static_cast<int>(
      std::count_if(layers.begin(), layers.end(), [&](const LayerSpec& layer) { return layer.kind == kind; }));
}

absl::StatusOr<ModelSpec> ReadModelSpec(const std::string& folder) {
  const std::string path = folder + "/config.json";
  HYSPARSE_ASSIGN_OR_RETURN(const json object, ReadJsonObject(path));
  JsonReader config(object, path);
  const std::string model_type = config.String("model_type", "");
  ModelKeys keys;
  if (!ReadFamilyKeys(model_type, config, keys) && config.ok()) {
    config.Fail("model_type",
                absl::StrCat(model_type.empty() ? "is missing" : absl::StrCat("'", model_type, "' is not supported"),
                             "; supported are ", KnownFamilies()));
  }
  if (config.ok()) CheckUnsupported(config);
  if (config.ok()) CheckLengths(config, keys);
  if (config.ok()) CheckAttention(config, keys);
  if (config.ok()) CheckMoe(config, keys);
  HYSPARSE_RETURN_IF_ERROR(config.status());
  ModelSpec spec = MakeSpec(keys, config);
  spec.model_type = model_type;
  HYSPARSE_RETURN_IF_ERROR(ReadGenerationConfig(folder, config, spec));
  return spec;
}

}  // namespace hysparse
