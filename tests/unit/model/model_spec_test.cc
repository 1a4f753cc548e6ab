#include "engine/model/model_spec.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/model/model_folder.h"

namespace hysparse {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

absl::StatusOr<ModelSpec> Read(const json& config) {
  ModelFolder folder;
  folder.WriteConfig(config);
  return ReadModelSpec(folder.path());
}

ModelSpec MustRead(const json& config) {
  auto spec = Read(config);
  EXPECT_TRUE(spec.ok()) << spec.status();
  return spec.ok() ? *spec : ModelSpec();
}

json With(json config, const json& changes) {
  config.update(changes);
  return config;
}

std::vector<int> Kinds(const ModelSpec& spec) {
  std::vector<int> kinds;
  for (const LayerSpec& layer : spec.layers) kinds.push_back(static_cast<int>(layer.kind));
  return kinds;
}

TEST(ModelSpecHysparse, FillsTheDefaultsOfTheSpecification) {
  json config = TinyConfig();
  for (const char* key : {"sliding_window", "sparse_block_size", "sparse_topk_tokens"}) config.erase(key);
  config["max_position_embeddings"] = 4096;
  const ModelSpec spec = MustRead(config);
  ASSERT_EQ(spec.layers.size(), 4u);
  const LayerSpec &full = spec.layers[0], &sparse = spec.layers[1], &last = spec.layers[3];
  EXPECT_EQ(sparse.oracle, 0);
  EXPECT_EQ(spec.layers[2].oracle, 0);
  EXPECT_EQ(sparse.window, 128);
  EXPECT_EQ(sparse.block, 64);
  EXPECT_EQ(sparse.top_blocks, 16);
  EXPECT_EQ(full.block, 64) << "an oracle selects for its sparse layers";
  EXPECT_EQ(last.block, 0) << "nothing follows the last full layer";
  EXPECT_TRUE(sparse.sink && sparse.sparse_sink && sparse.gate && sparse.sparse_gate);
  EXPECT_FALSE(full.sink || full.gate);
  EXPECT_EQ(full.v_dim, 8);
  EXPECT_FLOAT_EQ(spec.rms_eps, 1e-5f);
  EXPECT_FALSE(spec.tie_embeddings || spec.qkv_bias || spec.qk_norm || spec.gate_per_head);
  EXPECT_EQ(full.rope.rotary_dim, 8);
  ASSERT_EQ(full.rope.inv_freq.size(), 4u);
  EXPECT_FLOAT_EQ(full.rope.inv_freq[1], 0.1f);  // 10000^(-2/8)
}

TEST(ModelSpecHysparse, AWindowBranchOfItsOwnShape) {
  const ModelSpec spec = MustRead(With(TinyConfig(), {{"hybrid_layer_pattern", {0, 1, 2, 0}},
                                                      {"swa_num_attention_heads", 2},
                                                      {"swa_num_key_value_heads", 1},
                                                      {"swa_head_dim", 16},
                                                      {"swa_v_head_dim", 4},
                                                      {"swa_rope_theta", 500.0},
                                                      {"v_head_dim", 12}}));
  const LayerSpec &swa = spec.layers[1], &sparse = spec.layers[2];
  EXPECT_EQ(swa.heads, 2);
  EXPECT_EQ(swa.kv_heads, 1);
  EXPECT_EQ(swa.qk_dim, 16);
  EXPECT_EQ(swa.v_dim, 4);
  EXPECT_EQ(swa.rope.theta, 500.0);
  // A sparse layer takes only the KV heads from the swa_ keys: its query serves both branches.
  EXPECT_EQ(sparse.heads, 4);
  EXPECT_EQ(sparse.kv_heads, 1);
  EXPECT_EQ(sparse.qk_dim, 8);
  EXPECT_EQ(sparse.v_dim, 12);
  EXPECT_EQ(sparse.rope.theta, 10000.0);
}

TEST(ModelSpecHysparse, AcceptsOtherNamesOfTheSameKeys) {
  json config = TinyConfig();
  config.erase("sparse_block_size");
  config.erase("sparse_topk_tokens");
  const ModelSpec spec =
      MustRead(With(config, {{"hy_sparse_block_size", 16}, {"hy_sparse_topk", 3}, {"layernorm_epsilon", 0.25}}));
  EXPECT_EQ(spec.layers[1].block, 16);
  EXPECT_EQ(spec.layers[1].top_blocks, 3) << "hy_sparse_topk counts blocks";
  EXPECT_FLOAT_EQ(spec.rms_eps, 0.25f);
}

TEST(ModelSpecHysparse, SelectsNoMoreBlocksThanAContextHas) {
  EXPECT_EQ(MustRead(With(TinyConfig(), {{"max_position_embeddings", 20}})).layers[1].top_blocks, 3);
}

// The defaults of the config classes of transformers 5.23.
TEST(ModelSpecFamilies, AMissingKeyTakesTheFamilysDefault) {
  const ModelSpec llama = MustRead({{"model_type", "llama"}});
  EXPECT_EQ(llama.intermediate, 11008);
  EXPECT_EQ(llama.layers.size(), 32u);
  EXPECT_EQ(llama.layers[0].kv_heads, 32);
  EXPECT_EQ(llama.max_context, 2048);
  EXPECT_FLOAT_EQ(llama.rms_eps, 1e-6f);
  EXPECT_FALSE(llama.qkv_bias || llama.o_bias || llama.mlp_bias);

  const ModelSpec mistral = MustRead({{"model_type", "mistral"}});
  EXPECT_EQ(mistral.layers[0].kv_heads, 8);
  EXPECT_EQ(mistral.CountLayers(LayerKind::kSwa), 32) << "sliding_window is 4096 unless the config says null";
  EXPECT_EQ(mistral.layers[0].window, 4096);
  EXPECT_FALSE(mistral.layers[0].sink || mistral.layers[0].gate);

  const ModelSpec qwen2 = MustRead({{"model_type", "qwen2"}});
  EXPECT_TRUE(qwen2.qkv_bias);
  EXPECT_FALSE(qwen2.o_bias || qwen2.qk_norm);
  EXPECT_EQ(qwen2.CountLayers(LayerKind::kFull), 32);

  const ModelSpec qwen3 = MustRead({{"model_type", "qwen3"}});
  EXPECT_TRUE(qwen3.qk_norm);
  EXPECT_EQ(qwen3.layers[0].qk_dim, 128);

  const ModelSpec moe = MustRead({{"model_type", "qwen3_moe"}});
  EXPECT_EQ(moe.hidden, 2048);
  EXPECT_EQ(moe.layers[0].kv_heads, 4);
  EXPECT_EQ(moe.layers[0].qk_dim, 64) << "hidden_size / num_attention_heads";
  EXPECT_EQ(moe.moe.experts, 128);
  EXPECT_EQ(moe.moe.experts_per_token, 8);
  EXPECT_FALSE(moe.moe.normalize) << "norm_topk_prob is false in this family";
  EXPECT_FALSE(moe.moe.sigmoid);
  EXPECT_TRUE(moe.layers[0].moe);

  const ModelSpec mimo = MustRead({{"model_type", "mimo_v2_flash"}});
  EXPECT_EQ(mimo.CountLayers(LayerKind::kFull), 9);
  EXPECT_EQ(mimo.CountLayers(LayerKind::kSwa), 39);
  const LayerSpec &full = mimo.layers[0], &swa = mimo.layers[1];
  EXPECT_EQ(full.kv_heads, 4);
  EXPECT_EQ(swa.kv_heads, 8);
  EXPECT_EQ(full.qk_dim, 192);
  EXPECT_EQ(swa.v_dim, 128);
  EXPECT_EQ(full.rope.rotary_dim, 64);
  EXPECT_EQ(full.rope.theta, 5e6);
  EXPECT_EQ(swa.rope.theta, 1e4);
  EXPECT_EQ(swa.window, 129);
  EXPECT_TRUE(swa.sink);
  EXPECT_FALSE(full.sink);
  EXPECT_FALSE(full.moe);
  EXPECT_TRUE(swa.moe && mimo.moe.sigmoid && mimo.moe.selection_bias && mimo.moe.normalize);
  EXPECT_FLOAT_EQ(mimo.v_scale, 0.707f);
}

TEST(ModelSpecFamilies, SlidingWindowsBecomeThePattern) {
  const json qwen = {
      {"model_type", "qwen2"}, {"num_hidden_layers", 4}, {"sliding_window", 77}, {"max_window_layers", 2}};
  EXPECT_THAT(Kinds(MustRead(qwen)), ElementsAre(0, 0, 0, 0)) << "use_sliding_window is off";
  EXPECT_THAT(Kinds(MustRead(With(qwen, {{"use_sliding_window", true}}))), ElementsAre(0, 0, 1, 1));
  const json types = {"sliding_attention", "full_attention", "sliding_attention", "full_attention"};
  const ModelSpec typed = MustRead(With(qwen, {{"use_sliding_window", true}, {"layer_types", types}}));
  EXPECT_THAT(Kinds(typed), ElementsAre(1, 0, 1, 0));
  EXPECT_EQ(typed.layers[0].window, 77);
  const json mistral = {{"model_type", "mistral"}, {"num_hidden_layers", 2}};
  EXPECT_THAT(Kinds(MustRead(With(mistral, {{"sliding_window", nullptr}}))), ElementsAre(0, 0));
  EXPECT_THAT(Kinds(MustRead(With(mistral, {{"sliding_window", 5}}))), ElementsAre(1, 1));
}

TEST(ModelSpecFamilies, NullKeyValueHeadsMeanAsManyAsHeads) {
  EXPECT_EQ(MustRead({{"model_type", "mistral"}, {"num_key_value_heads", nullptr}}).layers[0].kv_heads, 32);
}

TEST(ModelSpecFamilies, LlamaBiasesCoverWhatTheyCoverInTransformers) {
  const ModelSpec spec = MustRead({{"model_type", "llama"}, {"attention_bias", true}, {"mlp_bias", true}});
  EXPECT_TRUE(spec.qkv_bias && spec.o_bias && spec.mlp_bias);
  const ModelSpec mine = MustRead(With(TinyConfig(), {{"attention_bias", true}}));
  EXPECT_TRUE(mine.qkv_bias);
  EXPECT_FALSE(mine.o_bias);
}

TEST(ModelSpecFamilies, QwenMoeLayersFollowStepAndExceptions) {
  const ModelSpec spec = MustRead(
      {{"model_type", "qwen3_moe"}, {"num_hidden_layers", 6}, {"decoder_sparse_step", 2}, {"mlp_only_layers", {3}}});
  std::vector<bool> moe;
  for (const LayerSpec& layer : spec.layers) moe.push_back(layer.moe);
  EXPECT_THAT(moe, ElementsAre(false, true, false, false, false, true));
}

TEST(ModelSpecFamilies, MimoWindowSizeCountsTheTokensBeforeTheQuery) {
  const json mimo = {{"model_type", "mimo_v2_flash"}, {"sliding_window", 128}};
  EXPECT_EQ(MustRead(mimo).layers[1].window, 128);
  EXPECT_EQ(MustRead(With(mimo, {{"sliding_window_size", 128}})).layers[1].window, 129);
}

TEST(ModelSpecGeneration, StopIdsAreGenerationConfigsElseConfigs) {
  ModelFolder folder;
  folder.WriteConfig(With(TinyConfig(), {{"eos_token_id", {7, 3, 7}}, {"bos_token_id", 5}}));
  EXPECT_THAT(ReadModelSpec(folder.path())->stop_ids, ElementsAre(3, 7));
  folder.Write("generation_config.json", R"({"eos_token_id": [9, 4000], "temperature": 0.6, "top_k": 20})");
  const auto spec = ReadModelSpec(folder.path());
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_THAT(spec->stop_ids, ElementsAre(9)) << "an id beyond the vocabulary can never be sampled";
  EXPECT_EQ(spec->bos_id, 5);
  EXPECT_FLOAT_EQ(spec->defaults.temperature, 0.6f);
  EXPECT_EQ(spec->defaults.top_k, 20);
  EXPECT_FLOAT_EQ(spec->defaults.top_p, 1.0f);
}

struct BadConfig {
  const char* name;
  json changes;
  const char* key;      // named by the error
  const char* problem;  // and what is wrong
};

class ModelSpecRefuses : public testing::TestWithParam<BadConfig> {};

TEST_P(ModelSpecRefuses, NamesFileAndKey) {
  json config = TinyConfig();
  for (const auto& [key, value] : GetParam().changes.items()) {
    if (value == "ERASE") {
      config.erase(key);
    } else {
      config[key] = value;
    }
  }
  const auto spec = Read(config);
  ASSERT_FALSE(spec.ok());
  EXPECT_EQ(spec.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(spec.status().message()),
              AllOf(HasSubstr("/config.json: "), HasSubstr(GetParam().key), HasSubstr(GetParam().problem)));
}

INSTANTIATE_TEST_SUITE_P(
    All, ModelSpecRefuses,
    testing::Values(
        BadConfig{
            "UnknownType", {{"model_type", "gpt2"}}, "model_type", "'gpt2' is not supported; supported are hysparse"},
        BadConfig{"NoType", {{"model_type", "ERASE"}}, "model_type", "is missing"},
        BadConfig{"TypeIsNumber", {{"model_type", 3}}, "model_type", "a string is expected"},
        BadConfig{"MissingVocab", {{"vocab_size", "ERASE"}}, "vocab_size", "is missing"},
        BadConfig{"VocabIsText", {{"vocab_size", "many"}}, "vocab_size", "an integer is expected"},
        BadConfig{"VocabIsFraction", {{"vocab_size", 40.5}}, "vocab_size", "an integer is expected"},
        BadConfig{"VocabIsNegative", {{"vocab_size", -40}}, "vocab_size", "between 1 and"},
        BadConfig{"VocabIsHuge", {{"vocab_size", 18446744073709551615ull}}, "vocab_size", "between 1 and"},
        BadConfig{"LayersAreHuge", {{"num_hidden_layers", 2000000000}}, "num_hidden_layers", "between 1 and"},
        BadConfig{"NoHeads", {{"num_attention_heads", 0}}, "num_attention_heads", "between 1 and"},
        BadConfig{"HeadsDoNotDivide", {{"num_key_value_heads", 3}}, "num_key_value_heads", "does not divide the 4"},
        BadConfig{"OddHeadDim", {{"head_dim", 7}}, "head_dim", "even"},
        BadConfig{
            "FirstLayerSparse", {{"hybrid_layer_pattern", {2, 0, 0, 0}}}, "hybrid_layer_pattern", "layer 0 is sparse"},
        BadConfig{"NoOracle", {{"hybrid_layer_pattern", {1, 2, 0, 0}}}, "hybrid_layer_pattern", "layer 1 is sparse"},
        BadConfig{"ShortPattern", {{"hybrid_layer_pattern", {0, 2}}}, "hybrid_layer_pattern", "lists 2 layers"},
        BadConfig{
            "UnknownKind", {{"hybrid_layer_pattern", {0, 3, 2, 0}}}, "hybrid_layer_pattern[1]", "between 0 and 2"},
        BadConfig{"PatternIsText", {{"hybrid_layer_pattern", "0220"}}, "hybrid_layer_pattern", "a list of integers"},
        BadConfig{"TwoPatterns",
                  {{"layer_types", {"full_attention", "full_attention", "full_attention", "full_attention"}}},
                  "layer_types",
                  "contradicts"},
        BadConfig{"ShortMoeList", {{"moe_layer_freq", {0, 0}}}, "moe_layer_freq", "lists 2 layers"},
        BadConfig{"NoExperts", {{"moe_layer_freq", {0, 1, 1, 1}}}, "n_routed_experts", "is missing"},
        BadConfig{"MoreChosenThanThere",
                  {{"moe_layer_freq", {0, 1, 1, 1}},
                   {"n_routed_experts", 4},
                   {"num_experts_per_tok", 5},
                   {"moe_intermediate_size", 8}},
                  "num_experts_per_tok",
                  "more than the 4 experts"},
        BadConfig{"ExpertGroups",
                  {{"moe_layer_freq", {0, 1, 1, 1}},
                   {"n_routed_experts", 4},
                   {"num_experts_per_tok", 2},
                   {"moe_intermediate_size", 8},
                   {"n_group", 2}},
                  "topk_group",
                  "groups"},
        BadConfig{"ZeroBlock", {{"sparse_block_size", 0}}, "sparse_block_size", "between 1 and"},
        BadConfig{"LessThanABlock", {{"sparse_topk_tokens", 7}}, "sparse_topk_tokens", "less than one block"},
        BadConfig{"NoWindow", {{"sliding_window", 0}}, "sliding_window", "between 1 and"},
        BadConfig{"UnknownGate", {{"gate_granularity", "token"}}, "gate_granularity", "'token'"},
        BadConfig{"UnknownAct", {{"hidden_act", "gelu"}}, "hidden_act", "silu"},
        BadConfig{"UnknownRope", {{"rope_scaling", {{"type", "longrope"}}}}, "rope_scaling.rope_type", "'longrope'"},
        BadConfig{"RopeIsList", {{"rope_scaling", {1, 2}}}, "rope_scaling", "an object is expected"},
        BadConfig{"NoFactor", {{"rope_scaling", {{"rope_type", "linear"}}}}, "rope_scaling.factor", "is missing"},
        BadConfig{"ThetaIsZero", {{"rope_theta", 0}}, "rope_theta", "between"},
        BadConfig{"Llama3Factors",
                  {{"rope_parameters",
                    {{"rope_type", "llama3"}, {"factor", 8}, {"low_freq_factor", 4}, {"high_freq_factor", 4}}}},
                  "rope_parameters.high_freq_factor",
                  "greater than low_freq_factor"},
        BadConfig{"PartialIsTwo", {{"partial_rotary_factor", 2.0}}, "partial_rotary_factor", "between 0 and 1"},
        BadConfig{"Quantized", {{"quantization_config", {{"quant_method", "fp8"}}}}, "quantization_config", "'fp8'"},
        BadConfig{"EosIsText", {{"eos_token_id", "end"}}, "eos_token_id", "an integer is expected"}),
    [](const auto& info) { return info.param.name; });

TEST(ModelSpecFile, RefusesWhatIsNoJson) {
  ModelFolder folder;
  EXPECT_EQ(ReadModelSpec(folder.path()).status().code(), absl::StatusCode::kNotFound);
  const std::pair<std::string, const char*> cases[] = {
      {"", "not valid JSON"},
      {"{\"model_type\": \"llama\"", "not valid JSON"},
      {"[1, 2]", "a JSON object is expected"},
      {"{\"model_type\": \"\xff\xfe\"}", "not valid JSON"},
      {"{\"model_type\": \"llama\", \"model_type\": \"qwen2\"}", "given twice"},
      {"{\"a\": 1e999}", "not valid JSON"},
      {"{\"a\":" + std::string(100000, '[') + std::string(100000, ']') + "}", "nested deeper"},
      {"{\"a\":" + std::string(100000, '['), "not valid JSON"},
  };
  for (const auto& [text, problem] : cases) {
    folder.Write("config.json", text);
    const auto spec = ReadModelSpec(folder.path());
    ASSERT_FALSE(spec.ok());
    EXPECT_THAT(std::string(spec.status().message()), AllOf(HasSubstr("config.json"), HasSubstr(problem)));
  }
}

TEST(ModelSpecFamilies, MimoRotatesAnEvenNumberOfDims) {
  const auto spec = Read({{"model_type", "mimo_v2_flash"}, {"head_dim", 50}, {"partial_rotary_factor", 0.3}});
  ASSERT_FALSE(spec.ok());
  EXPECT_THAT(std::string(spec.status().message()), HasSubstr("partial_rotary_factor"));
}

// Sizes that are allowed one by one must not add up to something that cannot even be listed.
TEST(ModelSpecFile, RefusesAbsurdTotals) {
  const auto spec = Read({{"model_type", "qwen3_moe"}, {"num_hidden_layers", 4096}, {"num_experts", 8192}});
  ASSERT_FALSE(spec.ok());
  EXPECT_THAT(std::string(spec.status().message()), HasSubstr("8192 in 4096 layers"));
}

TEST(ModelSpecFile, RefusesABrokenGenerationConfig) {
  ModelFolder folder;
  folder.WriteConfig(TinyConfig());
  folder.Write("generation_config.json", "{\"temperature\": \"hot\"}");
  const auto spec = ReadModelSpec(folder.path());
  ASSERT_FALSE(spec.ok());
  EXPECT_THAT(std::string(spec.status().message()), HasSubstr("generation_config.json: temperature"));
}

// Any truncation and any single damaged byte of a config is an answer or an error, never a crash.
TEST(ModelSpecFile, SurvivesDamage) {
  ModelFolder folder;
  const std::string text = With(TinyConfig(), {{"rope_scaling", {{"type", "yarn"}, {"factor", 4}}}}).dump();
  for (size_t i = 0; i < text.size(); ++i) {
    std::string damaged = text;
    damaged[i] = "9\"-{"[i % 4];
    folder.Write("config.json", damaged);
    (void)ReadModelSpec(folder.path());
    folder.Write("config.json", text.substr(0, i));
    EXPECT_FALSE(ReadModelSpec(folder.path()).ok());
  }
}

}  // namespace
}  // namespace hysparse
