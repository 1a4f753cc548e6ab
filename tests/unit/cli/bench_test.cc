#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "server/cli/bench_report.h"
#include "server/cli/bench_runs.h"
#include "server/cli/bench_work.h"
#include "server/cli/logging.h"

namespace hysparse {
namespace {

using ::testing::HasSubstr;

// Two layers of 4 / 2 heads of 8 over a hidden size of 16.
ModelSpec Tiny(LayerKind second) {
  ModelSpec spec;
  spec.hidden = 16;
  spec.intermediate = 24;
  spec.vocab = 100;
  spec.layers.resize(2);
  for (LayerSpec& layer : spec.layers) {
    layer.heads = 4;
    layer.kv_heads = 2;
    layer.qk_dim = layer.v_dim = 8;
  }
  spec.layers[1].kind = second;
  if (second != LayerKind::kFull) spec.layers[1].window = 10;
  if (second == LayerKind::kSparse) {
    spec.layers[1].block = 4;
    spec.layers[1].top_blocks = 3;
    spec.layers[1].gate = spec.layers[1].sparse_gate = true;
  }
  return spec;
}

constexpr int64_t kQkv = 4 * 8 + 2 * 16, kLayer = 16 * kQkv + 32 * 16 + 16 * 48 + 24 * 16;

TEST(BenchWork, ParametersOfADecode) {
  EXPECT_EQ(DecodeParameters(Tiny(LayerKind::kFull)), 2 * kLayer + 16 * 100);
  EXPECT_EQ(DecodeParameters(Tiny(LayerKind::kSparse)), 2 * kLayer + 16 * 64 + 16 * 100);  // two gates of 4 · 8
}

TEST(BenchWork, OnlyActiveExpertsCount) {
  ModelSpec spec = Tiny(LayerKind::kFull);
  spec.layers[1].moe = true;
  spec.moe.experts = 8;
  spec.moe.experts_per_token = 2;
  spec.moe.width = 4;
  EXPECT_EQ(DecodeParameters(spec), 2 * kLayer - (16 * 48 + 24 * 16) + 2 * (16 * 8 + 4 * 16) + 16 * 100);
}

TEST(BenchWork, FlopsOfAPrefill) {
  const int64_t n = 20;
  const int64_t pairs = n * (n + 1) / 2;
  const double full = 2.0 * pairs * 4 * 16;
  EXPECT_EQ(PrefillFlops(Tiny(LayerKind::kFull), n), 2.0 * n * 2 * kLayer + 2.0 * 16 * 100 + 2 * full);
  const int64_t windowed = 10 * 11 / 2 + 10 * 10;  // 10 tokens see all before them, 10 see 10
  EXPECT_EQ(PrefillFlops(Tiny(LayerKind::kSwa), n),
            2.0 * n * 2 * kLayer + 2.0 * 16 * 100 + full + 2.0 * windowed * 4 * 16);
}

TEST(BenchWork, KeysReadByADecode) {
  EXPECT_EQ(DecodeKvElements(Tiny(LayerKind::kFull), 99), 2 * 100 * 2 * 16);
  EXPECT_EQ(DecodeKvElements(Tiny(LayerKind::kSparse), 99), (100 + 10 + 12) * 2 * 16);
}

TEST(BenchRuns, Median) {
  EXPECT_EQ(Median({3, 1, 2}), 2);
  EXPECT_EQ(Median({4, 1, 2, 3}), 2.5);
  EXPECT_EQ(Median({}), 0);
}

TEST(BenchRuns, RandomPromptsStayInTheVocabularyAndRepeat) {
  const auto prompt = RandomPrompt(7, 100, 5);
  EXPECT_THAT(prompt, ::testing::Each(::testing::AllOf(::testing::Ge(0), ::testing::Lt(7))));
  EXPECT_EQ(prompt, RandomPrompt(7, 100, 5));
  EXPECT_NE(prompt, RandomPrompt(7, 100, 6));
}

BenchReport Report() {
  BenchReport report;
  report.model = "m";
  report.device = "cpu, 2 threads";
  report.dtype = report.gemm_dtype = DType::kBF16;
  report.runs = 5;
  report.read_bytes_s = 54e9;
  report.gemm_flop_s = 900e9;
  report.prefill = {{"2048", 1800, 630e9, 0.7}};
  report.decode = {{"1 sequence, short", 170, 46e9, 0.85}};
  report.batch_gain = 5.5;
  report.http_overhead_s = 150e-6;
  report.startup_s = 1.234;
  return report;
}

TEST(BenchReport, Text) {
  const std::string text = BenchAsText(Report());
  for (const char* part : {"memory read 54.0 GB/s", "GEMM at these shapes 900 GFLOP/s", "1,800", "70 %", "85 %", "5.5×",
                           "engine and HTTP 150 µs", "1.23 s"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(BenchReport, JsonLeavesOutWhatWasNotMeasured) {
  BenchReport report = Report();
  auto json = nlohmann::json::parse(BenchAsJson(report));
  EXPECT_DOUBLE_EQ(json["prefill"]["2048"]["fraction_of_ceiling"], 0.7);
  EXPECT_EQ(json["ceilings"]["gemm_dtype"], "bfloat16");
  report.gemm_flop_s = report.read_bytes_s = 0;
  report.prefill[0].share = 0;
  json = nlohmann::json::parse(BenchAsJson(report));
  EXPECT_FALSE(json.contains("ceilings"));
  EXPECT_FALSE(json["prefill"]["2048"].contains("fraction_of_ceiling"));
}

TEST(Logging, JsonLines) {
  EXPECT_EQ(JsonLogLine("t", "info", "a \"quoted\"\nline"),
            "{\"time\":\"t\",\"level\":\"info\",\"message\":\"a \\\"quoted\\\"\\nline\"}\n");
  EXPECT_EQ(JsonLogLine("t", "info", R"({"event":"request","status":200})"),
            "{\"time\":\"t\",\"level\":\"info\",\"event\":\"request\",\"status\":200}\n");
  EXPECT_EQ(JsonLogLine("t", "info", "{not json"), "{\"time\":\"t\",\"level\":\"info\",\"message\":\"{not json\"}\n");
  EXPECT_THAT(JsonLogLine("t", "info", "\xff"), HasSubstr("\xEF\xBF\xBD"));
}

}  // namespace
}  // namespace hysparse
