#include "server/cli/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "server/cli/capacity.h"
#include "server/cli/format.h"

namespace hysparse {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;

// The published 80B-A3B shapes with 192/128 heads; `kinds` as in hybrid_layer_pattern.
ModelSpec Paper80b(const std::function<LayerKind(int)>& kind) {
  ModelSpec spec;
  spec.architecture = "HySparseForCausalLM";
  spec.hidden = 2048;
  spec.max_context = 1048576;
  spec.layers.resize(49);
  for (int l = 0; l < 49; ++l) {
    LayerSpec& layer = spec.layers[static_cast<size_t>(l)];
    layer.kind = kind(l);
    layer.heads = 64;
    layer.kv_heads = 4;
    layer.qk_dim = 192;
    layer.v_dim = 128;
    layer.window = layer.kind == LayerKind::kFull ? 0 : 128;
    layer.block = layer.kind == LayerKind::kSparse ? 64 : 0;
  }
  return spec;
}

PlanInput Input(const std::function<LayerKind(int)>& kind) {
  return {.name = "m", .spec = Paper80b(kind), .element_bytes = 1, .memory = int64_t{80} << 30, .context = 1048576};
}

LayerKind Sparse(int l) { return l % 12 == 0 ? LayerKind::kFull : LayerKind::kSparse; }
LayerKind Swa(int l) { return l % 6 == 0 ? LayerKind::kFull : LayerKind::kSwa; }

// The figures that the papers publish for 1,048,576 tokens at one byte an element.
TEST(Plan, PublishedFigures) {
  EXPECT_THAT(PlanAsText(Input(Sparse)), ContainsRegex("total +6.72 GB"));
  EXPECT_THAT(PlanAsText(Input(Swa)), ContainsRegex("total +12.09 GB"));
  EXPECT_THAT(PlanAsText(Input([](int) { return LayerKind::kFull; })), ContainsRegex("total +65.77 GB"));
}

TEST(Plan, TextNamesLayersClassesAndSessions) {
  const std::string text = PlanAsText(Input(Sparse));
  EXPECT_THAT(text, HasSubstr("49 layers: 5 full, 44 sparse"));
  EXPECT_THAT(text, HasSubstr("hidden 2048, 64/4 heads of 192/128, context 1,048,576"));
  EXPECT_THAT(text, HasSubstr("1 byte an element"));
  EXPECT_THAT(text, HasSubstr("6,400"));   // 5 · 4 · 320
  EXPECT_THAT(text, HasSubstr("56,320"));  // 44 · 4 · 320
  EXPECT_THAT(text, HasSubstr("the last 128"));
  EXPECT_THAT(text, HasSubstr("Sessions that fit in 80.0 GiB"));
  EXPECT_EQ(text.find("beyond"), std::string::npos);
}

TEST(Plan, JsonHoldsTheFormulaAndThePages) {
  PlanInput input = Input(Sparse);
  input.context = 1000;
  const auto json = nlohmann::json::parse(PlanAsJson(input));
  EXPECT_EQ(json["context"]["formula_bytes"]["global"], 5 * 4 * 320 * 1000);
  EXPECT_EQ(json["context"]["formula_bytes"]["window"], 44 * 4 * 320 * 128);
  EXPECT_EQ(json["context"]["allocated_bytes"]["global"], 5 * 4 * 320 * 1024);     // 16 pages of 64
  EXPECT_EQ(json["context"]["allocated_bytes"]["window"], 44 * 4 * 320 * 3 * 64);  // tokens 872 … 999: pages 13, 14, 15
  EXPECT_EQ(json["context"]["full_attention_bytes"], 49 * 4 * 320 * 1000);
  EXPECT_EQ(json["layers"]["sparse"], 44);
  EXPECT_EQ(json["sessions"].size(), 4u);
}

TEST(Plan, SessionsScaleWithTheElement) {
  const ModelSpec spec = Paper80b(Sparse);
  const int64_t memory = int64_t{80} << 30;
  for (const int64_t context : {8192, 131072}) {
    const Sessions one = SessionsThatFit(spec, 1, memory, context);
    const Sessions four = SessionsThatFit(spec, 4, memory, context);
    EXPECT_EQ(one.fit / 4, four.fit);
    EXPECT_EQ(SessionsThatFit(spec, 2, memory / 2, context).fit, four.fit);
    EXPECT_GT(one.fit, 7 * one.full_attention);
  }
  // 49 · 4 · 320 · 131,072 bytes a session.
  EXPECT_EQ(SessionsThatFit(spec, 1, memory, 131072).full_attention, memory / (int64_t{49} * 4 * 320 * 131072));
}

TEST(Plan, ContextsBeyondTheModelAreMarked) {
  PlanInput input = Input(Sparse);
  input.spec.max_context = 32768;
  const std::string text = PlanAsText(input);
  EXPECT_THAT(text, HasSubstr("131,072 *"));
  EXPECT_THAT(text, HasSubstr("* beyond this model's limit of 32,768 tokens"));
}

TEST(Capacity, KvCacheLine) {
  EXPECT_EQ(KvCacheLine(Paper80b(Sparse), 1, int64_t{80} << 30, 1000000, 1048576)
                .find("KV cache: 1,000,000 tokens; 131,072-token sessions that fit: 101 (full attention would fit 10)"),
            0u);
  EXPECT_THAT(KvCacheLine(Paper80b(Sparse), 1, int64_t{80} << 30, 1000, 8192), HasSubstr("8,192-token sessions"));
}

TEST(Format, Numbers) {
  EXPECT_EQ(GroupDigits(0), "0");
  EXPECT_EQ(GroupDigits(999), "999");
  EXPECT_EQ(GroupDigits(1000), "1,000");
  EXPECT_EQ(GroupDigits(-1234567), "-1,234,567");
  EXPECT_EQ(FormatDecimal(6.72e9), "6.72 GB");
  EXPECT_EQ(FormatDecimal(12), "12 B");
  EXPECT_EQ(FormatNumber(1234.4), "1,234");
  EXPECT_EQ(FormatNumber(123.4), "123");
  EXPECT_EQ(FormatNumber(12.34), "12.3");
  EXPECT_EQ(FormatNumber(1.234), "1.23");
}

TEST(Format, TablesAlign) {
  EXPECT_EQ(FormatTable({{"a", "b"}, {"long", "2×"}, {"x", "100"}}), "  a       b\n  long   2×\n  x     100\n");
}

}  // namespace
}  // namespace hysparse
