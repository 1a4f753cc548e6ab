#include "engine/model/tensor_table.h"

#include <cmath>

#include "engine/model/weight_source.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/model/model_folder.h"

namespace hysparse {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class TensorTableCheck : public testing::Test {
 protected:
  TensorTableCheck() {
    folder_.WriteConfig(TinyConfig());
    spec_ = *ReadModelSpec(folder_.path());
    tensors_ = TensorsOf(spec_);
  }

  FileTensor& Get(const std::string& name) {
    for (FileTensor& tensor : tensors_) {
      if (tensor.name == name) return tensor;
    }
    ADD_FAILURE() << name;
    return tensors_[0];
  }
  absl::StatusOr<std::vector<std::string>> Check() {
    folder_.Write("model.safetensors", SafetensorsFile(tensors_));
    return TensorTable(spec_).Check(*Checkpoint::Open(folder_.path()));
  }
  void ExpectError(const std::vector<const char*>& parts) {
    const auto unused = Check();
    ASSERT_FALSE(unused.ok());
    EXPECT_THAT(std::string(unused.status().message()), HasSubstr(folder_.path()));
    for (const char* part : parts) EXPECT_THAT(std::string(unused.status().message()), HasSubstr(part));
  }

  ModelFolder folder_;
  ModelSpec spec_;
  std::vector<FileTensor> tensors_;
};

TEST_F(TensorTableCheck, AcceptsWhatTheModelNeeds) {
  const auto unused = Check();
  ASSERT_TRUE(unused.ok()) << unused.status();
  EXPECT_THAT(*unused, IsEmpty());
  const TensorTable table(spec_);
  EXPECT_THAT(table.Find("model.layers.1.self_attn.sparse_gate_proj.weight")->shape, ElementsAre(32, 32));
  EXPECT_THAT(table.Find("model.layers.1.self_attn.attention_sink_bias")->shape, ElementsAre(4));
  EXPECT_EQ(table.Find("model.layers.0.self_attn.gate_proj.weight"), nullptr);
}

TEST_F(TensorTableCheck, NamesAMissingTensor) {
  Get("model.layers.2.mlp.up_proj.weight").name = "elsewhere";
  ExpectError({"'model.layers.2.mlp.up_proj.weight'", "[48, 32]", "missing"});
}

TEST_F(TensorTableCheck, NamesBothShapes) {
  Get("model.layers.0.self_attn.k_proj.weight").shape = {32, 16};
  ExpectError({"model.safetensors", "'model.layers.0.self_attn.k_proj.weight'", "[32, 16]", "[16, 32]"});
}

TEST_F(TensorTableCheck, RefusesADtypeOnlyWhereItIsUsed) {
  tensors_.push_back({"extra.weight", {8}, "F8_E4M3"});
  EXPECT_THAT(*Check(), ElementsAre("extra.weight"));
  Get("lm_head.weight").dtype = "F8_E4M3";
  ExpectError({"'lm_head.weight'", "F8_E4M3", "BF16, F16 or F32"});
}

TEST_F(TensorTableCheck, ListsUnusedTensors) {
  tensors_.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", {4}});
  tensors_.push_back({"model.mtp.0.proj.bias", {4}});  // the bias of nothing that the model computes
  EXPECT_THAT(*Check(), ElementsAre("model.layers.0.self_attn.rotary_emb.inv_freq", "model.mtp.0.proj.bias"));
}

TEST_F(TensorTableCheck, RefusesABiasThatWouldBeDropped) {
  tensors_.push_back({"model.layers.1.self_attn.o_proj.bias", {32}});
  ExpectError({"'model.layers.1.self_attn.o_proj.bias'", "[32]", "would be ignored"});
}

TEST_F(TensorTableCheck, KnowsOtherNamesOfTheSinks) {
  Get("model.layers.1.self_attn.attention_sink_bias").name = "model.layers.1.self_attn.swa_attn_sink";
  Get("model.layers.1.self_attn.sparse_attention_sink_bias").name = "model.layers.1.self_attn.sparse_attn_sink";
  const auto unused = Check();
  ASSERT_TRUE(unused.ok()) << unused.status();
  EXPECT_THAT(*unused, IsEmpty());
}

TEST(RandomSource, HasTheTablesMomentsAndDependsOnSeedAndName) {
  TensorSpec spec;
  spec.name = "a";
  spec.shape = {100, 1000};
  spec.mean = 1.0f;
  spec.deviation = 0.25f;
  RandomSource source(7);
  const LoadedTensor loaded = source.Get(spec);
  EXPECT_EQ(loaded.matrix.rows, 100);
  EXPECT_EQ(loaded.matrix.cols, 1000);
  const std::vector<float> values = ToFloats(loaded.matrix);
  double sum = 0, squares = 0;
  for (const float value : values) {
    sum += value;
    squares += (value - 1.0) * (value - 1.0);
  }
  EXPECT_NEAR(sum / 1e5, 1.0, 0.005);
  EXPECT_NEAR(std::sqrt(squares / 1e5), 0.25, 0.005);
  EXPECT_EQ(ToFloats(RandomSource(7).Get(spec).matrix), values);
  EXPECT_NE(ToFloats(RandomSource(8).Get(spec).matrix), values);
  spec.name = "b";
  EXPECT_NE(ToFloats(source.Get(spec).matrix), values);
}

TEST(RandomSource, TensorsInUseKeepTheirValues) {
  TensorSpec a, b;
  a.name = "a";
  b.name = "b";
  a.shape = b.shape = {50, 3};
  RandomSource source(1);
  const LoadedTensor first = source.Get(a);
  const std::vector<float> before = ToFloats(first.matrix);
  const LoadedTensor second = source.Get(b);
  EXPECT_EQ(ToFloats(first.matrix), before);
  EXPECT_NE(ToFloats(second.matrix), before);
}

TEST(ToFloats, WidensHalves) {
  const std::pair<uint16_t, float> halves[] = {{0x3C00, 1.0f},           {0xC000, -2.0f},    {0x0001, 5.9604645e-8f},
                                               {0x8001, -5.9604645e-8f}, {0x7BFF, 65504.0f}, {0x7C00, INFINITY},
                                               {0x3555, 0.33325195f}};
  for (const auto& [bits, value] : halves) {
    MatrixSource matrix{&bits, DType::kF16, 1, 1};
    EXPECT_EQ(ToFloats(matrix)[0], value);
  }
  const uint16_t bf16 = 0xC049;
  EXPECT_EQ(ToFloats({&bf16, DType::kBF16, 1, 1})[0], -3.140625f);
}

// A tensor may begin at any byte of a file; what the backend gets is aligned all the same.
TEST(CheckpointSource, AlignsWhatTheFileDoesNot) {
  ModelFolder folder;
  const std::string header = R"({"pad": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}, )"
                             R"("a": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]}})";
  std::string file = SafetensorsBytes(header, 9);
  const float values[] = {1.5f, -3.0f};
  std::memcpy(file.data() + file.size() - 8, values, 8);
  folder.Write("model.safetensors", file);
  const auto checkpoint = Checkpoint::Open(folder.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  TensorSpec spec;
  spec.name = "a";
  spec.shape = {2};
  const LoadedTensor loaded = CheckpointSource(*checkpoint).Get(spec);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(loaded.matrix.data) % 4, 0u);
  EXPECT_THAT(ToFloats(loaded.matrix), ElementsAre(1.5f, -3.0f));
}

}  // namespace
}  // namespace hysparse
