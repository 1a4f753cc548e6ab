#include "engine/model/checkpoint.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/model/model_folder.h"

namespace hysparse {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

TEST(Checkpoint, MapsASingleFile) {
  ModelFolder folder;
  std::string file = SafetensorsBytes(
      R"({"__metadata__": {"format": "pt"}, "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [2, 26]},)"
      R"( "b": {"dtype": "BF16", "shape": [], "data_offsets": [0, 2]}})",
      26);
  file[file.size() - 1] = 'z';
  folder.Write("model.safetensors", file);
  const auto checkpoint = Checkpoint::Open(folder.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT(checkpoint->Names(), ElementsAre("a", "b"));
  const Tensor* a = checkpoint->Find("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->dtype, "F32");
  EXPECT_THAT(a->shape, ElementsAre(2, 3));
  ASSERT_EQ(a->bytes.size(), 24u);
  EXPECT_EQ(static_cast<char>(a->bytes[23]), 'z');
  EXPECT_EQ(checkpoint->Find("b")->bytes.size(), 2u);
  EXPECT_EQ(checkpoint->Find("c"), nullptr);
}

TEST(Checkpoint, SaysWhatToDoWithoutWeights) {
  ModelFolder folder;
  const auto checkpoint = Checkpoint::Open(folder.path());
  EXPECT_EQ(checkpoint.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(checkpoint.status()), HasSubstr("no model.safetensors"));
}

struct BadFile {
  const char* name;
  std::string bytes;
  const char* problem;
};

std::string Entry(const std::string& entry, size_t data_bytes) {
  return SafetensorsBytes("{" + entry + "}", data_bytes);
}

std::string Length(uint64_t length, size_t rest) {
  std::string bytes(8 + rest, ' ');
  std::memcpy(bytes.data(), &length, 8);
  return bytes;
}

class CheckpointRefuses : public testing::TestWithParam<BadFile> {};

TEST_P(CheckpointRefuses, NamesTheFile) {
  ModelFolder folder;
  folder.Write("model.safetensors", GetParam().bytes);
  const auto checkpoint = Checkpoint::Open(folder.path());
  ASSERT_FALSE(checkpoint.ok());
  EXPECT_EQ(checkpoint.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(checkpoint.status()), AllOf(HasSubstr("/model.safetensors: "), HasSubstr(GetParam().problem)));
}

INSTANTIATE_TEST_SUITE_P(
    All, CheckpointRefuses,
    testing::Values(
        BadFile{"Empty", "", "empty"}, BadFile{"Short", "1234567", "too short"},
        BadFile{"LengthBeyondFile", Length(100, 50), "the header's length, 100, is more than 50"},
        BadFile{"LengthOverflows", Length(~uint64_t{0}, 50), "the header's length"},
        BadFile{"LengthNearOverflow", Length(~uint64_t{0} - 7, 50), "the header's length"},
        BadFile{"NotJson", SafetensorsBytes("{\"a\": ", 0), "not valid JSON"},
        BadFile{"InvalidUtf8", SafetensorsBytes("{\"\xff\": 1}", 0), "not valid JSON"},
        BadFile{"AList", SafetensorsBytes("[1, 2]", 0), "not {dtype, shape, data_offsets}"},
        BadFile{"ANumber", SafetensorsBytes("7", 0), "not {dtype, shape, data_offsets}"},
        BadFile{"Deep", SafetensorsBytes(std::string(100000, '['), 0), "not {dtype, shape, data_offsets}"},
        BadFile{"EntryIsNumber", Entry(R"("a": 4)", 0), "not {dtype, shape, data_offsets}"},
        BadFile{"NoShape", Entry(R"("a": {"dtype": "F32", "data_offsets": [0, 4]})", 4), "tensor 'a'"},
        BadFile{"NoOffsets", Entry(R"("a": {"dtype": "F32", "shape": [1]})", 4), "tensor 'a'"},
        BadFile{"NegativeShape", Entry(R"("a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]})", 4),
                "tensor 'a'"},
        BadFile{"FractionalShape", Entry(R"("a": {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 4]})", 4),
                "tensor 'a'"},
        BadFile{"NestedShape", Entry(R"("a": {"dtype": "F32", "shape": [[1]], "data_offsets": [0, 4]})", 4),
                "tensor 'a'"},
        BadFile{"ShapeOverflows",
                Entry(R"("a": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 0]})", 0),
                "overflows"},
        BadFile{"ShapeIsUint64",
                Entry(R"("a": {"dtype": "F32", "shape": [18446744073709551615], "data_offsets": [0, 4]})", 4),
                "tensor 'a'"},
        BadFile{"Oversized", Entry(R"("a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]})", 4),
                "F32 of shape [2] takes 8 bytes, but its offsets span 4"},
        BadFile{"Truncated", Entry(R"("a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]})", 5), "truncated"},
        BadFile{"Backwards", Entry(R"("a": {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]})", 8), "backwards"},
        BadFile{"ThreeOffsets", Entry(R"("a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 4]})", 4),
                "tensor 'a'"},
        BadFile{"Overlap",
                Entry(R"("a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},)"
                      R"("b": {"dtype": "F32", "shape": [1], "data_offsets": [2, 6]})",
                      6),
                "'b' begins at 2, inside another tensor"},
        BadFile{"Gap", Entry(R"("a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]})", 8), "after a gap"},
        BadFile{"TrailingBytes", Entry(R"("a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]})", 9),
                "5 bytes follow the last tensor"},
        BadFile{"Duplicate",
                Entry(R"("a": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]},)"
                      R"("a": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]})",
                      0),
                "tensor 'a' is given twice"}),
    [](const auto& info) { return info.param.name; });

// Any truncation and any damaged byte of a file is an answer or an error, never a crash.
TEST(Checkpoint, SurvivesDamage) {
  ModelFolder folder;
  const std::string good = SafetensorsFile({{"a", {2, 2}}, {"b", {3}, "F32"}});
  for (size_t i = 0; i < good.size(); ++i) {
    std::string damaged = good;
    damaged[i] = static_cast<char>(damaged[i] ^ (1 << (i % 8)));
    folder.Write("model.safetensors", damaged);
    (void)Checkpoint::Open(folder.path());
    folder.Write("model.safetensors", good.substr(0, i));
    EXPECT_FALSE(Checkpoint::Open(folder.path()).ok()) << i;
  }
}

constexpr char kIndex[] = "model.safetensors.index.json";

TEST(ShardedCheckpoint, ReadsEveryShard) {
  ModelFolder folder;
  folder.Write("model-1.safetensors", SafetensorsFile({{"a", {4}}, {"b", {2}}}));
  folder.Write("model-2.safetensors", SafetensorsFile({{"c", {1, 1}}}));
  folder.Write("consolidated.safetensors", SafetensorsFile({{"a", {9}}}));  // not in the index: not read
  folder.Write(kIndex, R"({"metadata": {"total_size": 14}, "weight_map": {"a": "model-1.safetensors",
                           "b": "model-1.safetensors", "c": "model-2.safetensors"}})");
  const auto checkpoint = Checkpoint::Open(folder.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT(checkpoint->Names(), ElementsAre("a", "b", "c"));
  EXPECT_THAT(checkpoint->Find("a")->shape, ElementsAre(4));
  EXPECT_THAT(checkpoint->Find("c")->file, HasSubstr("model-2"));
}

TEST(ShardedCheckpoint, NamesWhatIsWrong) {
  ModelFolder folder;
  folder.Write("one.safetensors", SafetensorsFile({{"a", {4}}}));
  folder.Write("two.safetensors", SafetensorsFile({{"a", {4}}, {"b", {4}}}));
  folder.Write("secret.bin", SafetensorsFile({{"a", {4}}}));
  const std::pair<const char*, const char*> cases[] = {
      {R"({"weight_map": {"a": "three.safetensors"}})", "three.safetensors: missing"},
      {R"({"weight_map": {"b": "one.safetensors"}})", "tensor 'b' is not in one.safetensors"},
      {R"({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})", "tensor 'a' is also in"},
      {R"({"weight_map": {"a": "../one.safetensors"}})", "plain name"},
      {R"({"weight_map": {"a": "/etc/x.safetensors"}})", "plain name"},
      {R"({"weight_map": {"a": "..safetensors"}})", "plain name"},
      {R"({"weight_map": {"a": "secret.bin"}})", "plain name"},
      {R"({"weight_map": {"a": 3}})", "plain name"},
      {R"({"weight_map": ["a"]})", "weight_map"},
      {R"([])", "weight_map"},
      {R"({"weight_map": {"a": "one.safetensors", "a": "two.safetensors"}})", "given twice"},
      {R"({"weight_map")", "not valid JSON"},
  };
  for (const auto& [index, problem] : cases) {
    folder.Write(kIndex, index);
    const auto checkpoint = Checkpoint::Open(folder.path());
    ASSERT_FALSE(checkpoint.ok()) << index;
    EXPECT_THAT(Message(checkpoint.status()), HasSubstr(problem));
  }
}

}  // namespace
}  // namespace hysparse
