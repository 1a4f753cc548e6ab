#include "kernels/cpu/gemm.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/cpu/bf16.h"
#include "kernels/cpu/ops.h"
#include "tests/unit/kernels/isa_cases.h"

namespace hysparse::cpu {
namespace {

struct Shape {
  int k, n;
};

// Values in memory as `dtype`, with their exact values beside them.
struct Values {
  Values(const std::vector<float>& source, DType type) : dtype(type), exact(source) {
    if (type == DType::kF32) {
      bytes.resize(source.size() * 4);
      std::memcpy(bytes.data(), source.data(), bytes.size());
      return;
    }
    bytes.resize(source.size() * 2);
    for (size_t i = 0; i < source.size(); ++i) {
      const uint16_t bits = FloatToBf16(source[i]);
      std::memcpy(bytes.data() + 2 * i, &bits, 2);
      exact[i] = Bf16ToFloat(bits);
    }
  }
  DType dtype;
  std::vector<std::byte> bytes;
  std::vector<float> exact;
};

class GemmTest : public testing::TestWithParam<IsaAndType> {
 protected:
  CpuIsa isa() const { return std::get<0>(GetParam()); }
  DType compute() const { return std::get<1>(GetParam()); }

  std::unique_ptr<PanelMatrix> Pack(GemmEngine& engine, const Values& w, Shape shape) {
    const MatrixSource source{w.bytes.data(), w.dtype, shape.n, shape.k};
    auto packed = engine.Pack(std::span(&source, 1));
    EXPECT_TRUE(packed.ok()) << packed.status();
    return std::move(*packed);
  }
};

GemmParams Params(const Values& a, Shape shape, int rows, const PackedMatrix& weight, std::vector<float>& out) {
  GemmParams p;
  p.a = a.bytes.data();
  p.a_stride = shape.k;
  p.rows = rows;
  p.weight = &weight;
  p.out = out.data();
  p.out_stride = shape.n;
  return p;
}

TEST_P(GemmTest, AgreesWithDoublePrecision) {
  ThreadPool pool(2);
  GemmEngine engine(pool, isa(), compute());
  for (const Shape shape : {Shape{1, 1}, {1, 33}, {2, 7}, {31, 65}, {33, 31}, {64, 128}, {100, 97}, {576, 70}}) {
    for (const int rows : {1, 2, 5, 16, 17, 31, 33, 97, 131}) {
      const Values a(Random(size_t(rows) * shape.k, 1), compute());
      const Values w(Random(size_t(shape.n) * shape.k, 2), compute());
      const std::vector<float> bias = Random(shape.n, 3);
      const auto weight = Pack(engine, w, shape);
      const int stride = shape.n + 3;
      std::vector<float> out(size_t(rows) * stride, 77.0f);
      GemmParams p = Params(a, shape, rows, *weight, out);
      p.bias = bias.data();
      p.out_stride = stride;
      engine.Run(p);
      for (int r = 0; r < rows; ++r) {
        for (int n = 0; n < shape.n; ++n) {
          double sum = 0, magnitude = 0;
          for (int k = 0; k < shape.k; ++k) {
            const double term = double{a.exact[size_t(r) * shape.k + k]} * w.exact[size_t(n) * shape.k + k];
            sum += term;
            magnitude += std::abs(term);
          }
          ASSERT_NEAR(out[size_t(r) * stride + n], sum + bias[n], 1e-6 * (magnitude + std::abs(bias[n])) + 1e-30)
              << "K " << shape.k << " N " << shape.n << " rows " << rows << " at " << r << ", " << n;
        }
        for (int pad = shape.n; pad < stride; ++pad) ASSERT_EQ(out[size_t(r) * stride + pad], 77.0f);
      }
    }
  }
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int64_t kMostWork = 200'000;  // K * N: under a sanitizer the small shapes walk the same code
#else
constexpr int64_t kMostWork = INT64_MAX;
#endif

// The rule of the whole engine: a row's result depends on nothing else in the batch. Checked bit for bit, for every
// number of rows, with the row anywhere, and with what surrounds it changing.
TEST_P(GemmTest, ARowDependsOnNothingElse) {
  ThreadPool pool(2);
  GemmEngine engine(pool, isa(), compute());
  for (const Shape shape : {Shape{576, 576},
                            {576, 960},
                            {576, 3072},
                            {1536, 576},
                            {1536, 120},
                            {576, 330},
                            {576, 1000},
                            {2048, 90},
                            {64, 64},
                            {64, 128},
                            {64, 256},
                            {128, 64},
                            {64, 320},
                            {32, 64},
                            {64, 32},
                            {65, 33}}) {
    if (int64_t{shape.k} * shape.n > kMostWork) continue;
    constexpr int kMost = 256;
    const Values w(Random(size_t(shape.n) * shape.k, 4, 0.05f), compute());
    const auto weight = Pack(engine, w, shape);
    const Values a(Random(size_t(kMost) * shape.k, 5), compute());
    std::vector<float> alone(size_t(kMost) * shape.n), out(size_t(kMost) * shape.n);
    for (int r = 0; r < kMost; ++r) {
      GemmParams p = Params(a, shape, 1, *weight, out);
      p.a = a.bytes.data() + size_t(r) * shape.k * SizeOf(compute());
      p.out = alone.data() + size_t(r) * shape.n;
      engine.Run(p);
    }
    std::mt19937 rng(6);
    for (const int rows : {1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 33, 64, 65, 100, 128, 129, 200, 256}) {
      const int first = static_cast<int>(rng() % (kMost - rows + 1));
      GemmParams p = Params(a, shape, rows, *weight, out);
      p.a = a.bytes.data() + size_t(first) * shape.k * SizeOf(compute());
      engine.Run(p);
      for (int r = 0; r < rows; ++r) {
        ASSERT_EQ(std::memcmp(&out[size_t(r) * shape.n], &alone[size_t(first + r) * shape.n], shape.n * 4), 0)
            << "K " << shape.k << " N " << shape.n << ": row " << r << " of " << rows;
      }
    }
  }
}

TEST_P(GemmTest, StridesThreadsAndGroupsDoNotMatter) {
  const Shape shape{96, 200};
  constexpr int kRows = 70;
  const Values w(Random(size_t(shape.n) * shape.k, 7), compute());
  const Values wide(Random(size_t(kRows) * 2 * shape.k, 8), compute());
  std::vector<float> expected(size_t(kRows) * shape.n);
  for (const int threads : {1, 2, 5, 16}) {
    ThreadPool pool(threads);
    GemmEngine engine(pool, isa(), compute());
    const auto weight = Pack(engine, w, shape);
    std::vector<float> out(expected.size());
    GemmParams all = Params(wide, shape, kRows, *weight, out);
    all.a_stride = 2 * shape.k;
    if (threads == 1) all.out = expected.data();
    std::vector<GemmParams> parts;
    for (int row = 0; row < kRows; row += 13) {
      parts.push_back(all);
      parts.back().a = wide.bytes.data() + size_t(row) * 2 * shape.k * SizeOf(compute());
      parts.back().rows = std::min(13, kRows - row);
      parts.back().out = static_cast<float*>(all.out) + size_t(row) * shape.n;
    }
    parts.insert(parts.begin() + 2, GemmParams(all))->rows = 0;
    engine.RunGroup(parts);
    engine.RunGroup({});
    if (threads > 1) {
      EXPECT_EQ(out, expected) << threads << " threads";
    }
  }
}

TEST_P(GemmTest, MoreProductsThanAGroupHolds) {
  const Shape shape{32, 8};
  constexpr int kProducts = GemmEngine::kMaxGroup * 2 + 3;
  ThreadPool pool(2);
  GemmEngine engine(pool, isa(), compute());
  const Values w(Random(size_t(shape.n) * shape.k, 9), compute());
  const Values a(Random(size_t(kProducts) * shape.k, 10), compute());
  const auto weight = Pack(engine, w, shape);
  std::vector<float> whole(size_t(kProducts) * shape.n), out(whole.size());
  engine.Run(Params(a, shape, kProducts, *weight, whole));
  std::vector<GemmParams> parts;
  for (int i = 0; i < kProducts; ++i) {
    parts.push_back(Params(a, shape, 1, *weight, out));
    parts.back().a = a.bytes.data() + size_t(i) * shape.k * SizeOf(compute());
    parts.back().out = out.data() + size_t(i) * shape.n;
  }
  engine.RunGroup(parts);
  EXPECT_EQ(out, whole);
}

TEST_P(GemmTest, Bf16OutputIsTheRoundedF32Output) {
  const Shape shape{70, 45};
  ThreadPool pool(2);
  GemmEngine engine(pool, isa(), compute());
  const Values w(Random(size_t(shape.n) * shape.k, 11), compute());
  const Values a(Random(size_t{40} * shape.k, 12), compute());
  const std::vector<float> bias = Random(shape.n, 13);
  const auto weight = Pack(engine, w, shape);
  for (const int rows : {1, 3, 16, 40}) {
    std::vector<float> out(size_t(rows) * shape.n);
    std::vector<uint16_t> narrow(out.size());
    GemmParams p = Params(a, shape, rows, *weight, out);
    p.bias = bias.data();
    engine.Run(p);
    p.out = narrow.data();
    p.out_dtype = DType::kBF16;
    engine.Run(p);
    for (size_t i = 0; i < out.size(); ++i) ASSERT_EQ(narrow[i], FloatToBf16(out[i]));
  }
}

// silu(gate) ⊙ up, from the two products as they come alone; bit for bit where the activation is the row operation.
TEST_P(GemmTest, AGatedProductIsItsTwoProductsActivated) {
  ThreadPool pool(2);
  GemmEngine engine(pool, isa(), compute());
  for (const Shape shape : {Shape{70, 45}, {64, 128}, {96, 129}, {33, 330}, {576, 1536}}) {
    const Values w(Random(size_t(shape.n) * shape.k, 16, 0.2f), compute());
    const Values g(Random(size_t(shape.n) * shape.k, 17, 0.2f), compute());
    const std::vector<float> bias = Random(shape.n, 18), gate_bias = Random(shape.n, 19);
    const auto up = Pack(engine, w, shape), gate = Pack(engine, g, shape);
    for (const int rows : {1, 3, 16, 100}) {
      const Values a(Random(size_t(rows) * shape.k, 20), compute());
      std::vector<float> out(size_t(rows) * shape.n), gates(out.size()), ups(out.size()), expected(out.size());
      GemmParams p = Params(a, shape, rows, *gate, gates);
      p.bias = gate_bias.data();
      engine.Run(p);
      p = Params(a, shape, rows, *up, ups);
      p.bias = bias.data();
      engine.Run(p);
      p.gate = gate.get();
      p.gate_bias = gate_bias.data();
      p.out = out.data();
      engine.Run(p);
      RowOpsFor(isa()).swiglu(gates.data(), ups.data(), static_cast<int64_t>(out.size()), {expected.data(), false});
      ASSERT_EQ(std::memcmp(out.data(), expected.data(), out.size() * 4), 0) << shape.n << ", " << rows << " rows";
      std::vector<uint16_t> narrow(out.size());
      p.out = narrow.data();
      p.out_dtype = DType::kBF16;
      engine.Run(p);
      for (size_t i = 0; i < out.size(); ++i) ASSERT_EQ(narrow[i], FloatToBf16(out[i]));
    }
  }
}

TEST_P(GemmTest, SourcesAreConcatenatedAndConverted) {
  ThreadPool pool(2);
  GemmEngine engine(pool, isa(), compute());
  constexpr int kCols = 50;
  const std::vector<float> first = Random(size_t{20} * kCols, 14), second = Random(size_t{45} * kCols, 15);
  const Values bf16(second, DType::kBF16);
  // 0.5, -2, 65504 and the smallest subnormal: every kind of float16.
  const uint16_t halves[4] = {0x3800, 0xc000, 0x7bff, 0x8001};
  std::vector<uint16_t> third(size_t{3} * kCols);
  for (size_t i = 0; i < third.size(); ++i) third[i] = halves[i * 7 % 4];
  const MatrixSource sources[3] = {{first.data(), DType::kF32, 20, kCols},
                                   {bf16.bytes.data(), DType::kBF16, 45, kCols},
                                   {third.data(), DType::kF16, 3, kCols}};
  auto weight = engine.Pack(sources);
  ASSERT_TRUE(weight.ok()) << weight.status();
  EXPECT_EQ((*weight)->rows(), 68);
  EXPECT_EQ((*weight)->cols(), kCols);
  for (int k = 0; k < kCols; ++k) {  // a one-hot row reads a column of the weight
    std::vector<float> hot(kCols);
    hot[k] = 1.0f;
    const Values a(hot, compute());
    std::vector<float> out(68);
    engine.Run(Params(a, {kCols, 68}, 1, **weight, out));
    for (int n = 0; n < 68; ++n) {
      float value = n < 20   ? first[size_t(n) * kCols + k]
                    : n < 65 ? bf16.exact[size_t(n - 20) * kCols + k]
                             : F16ToFloat(third[size_t(n - 65) * kCols + k]);
      if (compute() == DType::kBF16) value = Bf16ToFloat(FloatToBf16(value));
      // The bf16 instructions flush subnormals; nothing else may differ.
      if (std::abs(value) >= 0x1p-126f) {
        ASSERT_EQ(out[n], value) << n << ", " << k;
      }
    }
  }
}

TEST_P(GemmTest, BadSourcesAreRefused) {
  ThreadPool pool(1);
  GemmEngine engine(pool, isa(), compute());
  const std::vector<float> data(12);
  const MatrixSource odd[2] = {{data.data(), DType::kF32, 3, 4}, {data.data(), DType::kF32, 4, 3}};
  EXPECT_EQ(engine.Pack(odd).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(engine.Pack({}).status().code(), absl::StatusCode::kInvalidArgument);
  const MatrixSource empty{data.data(), DType::kF32, 0, 4};
  EXPECT_EQ(engine.Pack(std::span(&empty, 1)).status().code(), absl::StatusCode::kInvalidArgument);
}

INSTANTIATE_TEST_SUITE_P(Isas, GemmTest, EachIsaAndType(), IsaAndTypeName);

}  // namespace
}  // namespace hysparse::cpu
