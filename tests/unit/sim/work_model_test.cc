// FLOPs and bytes of steps against numbers counted by hand.
#include "engine/sim/work_model.h"

#include <gtest/gtest.h>

#include "tests/unit/sim/sim_spec.h"

namespace hysparse {
namespace {

StepPlan PlanOf(int32_t position, int32_t tokens, int32_t write_from = 0) {
  StepPlan plan;
  PlannedChunk chunk;
  chunk.position = position;
  chunk.tokens = {0, tokens};
  chunk.write_from = write_from;
  plan.chunks.push_back(chunk);
  plan.tokens.resize(static_cast<size_t>(tokens));
  plan.rows.resize(1);
  return plan;
}

// Of a layer: q and o 2 · 100 · 80, k and v 100 · 2 · 20, MLP 3 · 100 · 300.
constexpr double kLayer = 16000 + 4000 + 90000;
constexpr double kHead = 100 * 1000;

TEST(WorkModel, ADecodeReadsItsContextAndAllWeights) {
  const ModelSpec spec = SimSpec();
  const WorkModel model(spec, MakeKvLayout(spec, DType::kBF16), 1);
  EXPECT_EQ(model.WeightBytes(), 2 * (2 * kLayer + 2 * kHead));
  const StepWork work = model.Of(PlanOf(999, 1));
  EXPECT_EQ(work.dense.bytes, 2 * (2 * kLayer + kHead));
  EXPECT_EQ(work.dense.flops, 2 * (2 * kLayer + kHead));
  // A token of a layer keeps 2 · 20 · 2 bytes: 1000 of the full layer, then 128 in the window and 256 selected.
  EXPECT_EQ(work.decode.bytes, 80 * (1000 + 128 + 256));
  EXPECT_EQ(work.decode.flops, 2 * 8 * 20 * (1000 + 128 + 256));
  EXPECT_EQ(work.full_prefill.bytes + work.sparse_prefill.bytes + work.experts.bytes + work.reduced_bytes, 0);
}

TEST(WorkModel, APrefillAttendsCausally) {
  const ModelSpec spec = SimSpec();
  const WorkModel model(spec, MakeKvLayout(spec, DType::kBF16), 1);
  const StepWork work = model.Of(PlanOf(0, 1000));
  const auto keys = [](double most) { return most * (most + 1) / 2 + (1000 - most) * most; };
  EXPECT_EQ(work.full_prefill.flops, 2 * 8 * 20 * keys(1000));
  EXPECT_EQ(work.sparse_prefill.flops, 2 * 8 * 20 * (keys(128) + keys(256)));
  EXPECT_EQ(work.full_prefill.bytes, 80 * 1000);
  EXPECT_EQ(work.decode.flops, 0);
  EXPECT_EQ(work.dense.flops, 2 * (1000 * 2 * kLayer + kHead));
}

TEST(WorkModel, RanksShareHeadsAndWeightsAndReduce) {
  const ModelSpec spec = SimSpec();
  const WorkModel one(spec, MakeKvLayout(spec, DType::kBF16), 1), two(spec, MakeKvLayout(spec, DType::kBF16, 2), 2);
  const StepWork whole = one.Of(PlanOf(500, 1)), half = two.Of(PlanOf(500, 1));
  EXPECT_EQ(half.decode.bytes, whole.decode.bytes / 2);
  EXPECT_EQ(half.decode.flops, whole.decode.flops / 2);
  EXPECT_EQ(half.dense.bytes, whole.dense.bytes / 2);
  EXPECT_EQ(half.reduced_bytes, 2 * 2 * 100 * 2);  // two all-reduces in each layer, of one token's 100 values
  EXPECT_EQ(two.WeightBytes(), one.WeightBytes() / 2);
}

TEST(WorkModel, TokensReachAsManyExpertsAsExpected) {
  ModelSpec spec = SimSpec();
  spec.moe = {.experts = 16, .experts_per_token = 4, .width = 10};
  spec.layers[1].moe = true;
  const WorkModel model(spec, MakeKvLayout(spec, DType::kBF16), 1);
  const double expert = 3 * 100 * 10;
  EXPECT_DOUBLE_EQ(model.Of(PlanOf(0, 1)).experts.bytes, 2 * 4 * expert);
  EXPECT_DOUBLE_EQ(model.Of(PlanOf(0, 2)).experts.bytes, 2 * 7 * expert);  // 16 (1 - (3/4)²)
  EXPECT_DOUBLE_EQ(model.Of(PlanOf(0, 2)).experts.flops, 2 * 2 * 4 * expert);
}

TEST(WorkModel, ARebuildCostsTheLayersThatItsRowsReach) {
  const ModelSpec spec = SimSpec();
  const WorkModel model(spec, MakeKvLayout(spec, DType::kBF16), 1);
  // Both layers need the 127 rows before the rebuild's end; of 200 rows those count.
  EXPECT_DOUBLE_EQ(model.Of(PlanOf(300, 200, 500)).dense.flops, 2 * (127 * 2 * kLayer + kHead));
}

TEST(WorkModel, EachPartTakesTheSlowerOfBytesAndFlops) {
  const ModelSpec spec = SimSpec();
  const WorkModel model(spec, MakeKvLayout(spec, DType::kBF16), 1);
  DeviceModel device;
  device.bandwidth = 100;
  device.gemm_flops = device.attention_flops = 10;
  device.sparse_flops = 5;
  device.step_overhead = 3;
  device.host_bandwidth = 7;
  StepWork work;
  work.dense = {1000, 10};         // 10 s of bytes
  work.decode = {100, 500};        // 50 s of FLOPs
  work.sparse_prefill = {0, 100};  // 20 s
  EXPECT_DOUBLE_EQ(model.Seconds(work, device), 3 + 10 + 50 + 20);
  work.host_bytes = 700;  // beside the step
  EXPECT_DOUBLE_EQ(model.Seconds(work, device), 100);
}

}  // namespace
}  // namespace hysparse
