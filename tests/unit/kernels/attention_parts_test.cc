// The pieces of attention that can be seen on their own: the selection, the exponential, KV write, addressing, limits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>

#include "kernels/cpu/attention/select_blocks.h"
#include "tests/unit/kernels/attention_test_util.h"

namespace hysparse::cpu {
namespace {

using testing::ElementsAre;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<int32_t> Select(const std::vector<float>& score, int top, int expected_count) {
  std::vector<uint64_t> rank(score.size());
  std::vector<int32_t> ids(static_cast<size_t>(top), 77);
  EXPECT_EQ(SelectBlocks(score.data(), static_cast<int>(score.size()), top, rank.data(), ids.data()), expected_count);
  return ids;
}

TEST(SelectBlocksTest, HighestScoresAscending) {
  EXPECT_THAT(Select({-3, -1, -7, -0.5f, -2}, 3, 3), ElementsAre(1, 3, 4));
  EXPECT_THAT(Select({1e-30f, -1e-30f, 2e-30f, -2e-30f}, 2, 2), ElementsAre(0, 2));
}

TEST(SelectBlocksTest, FewerBlocksThanTop) {
  EXPECT_THAT(Select({-1}, 3, 1), ElementsAre(0, -1, -1));
  EXPECT_THAT(Select({-2, -1, -3}, 3, 3), ElementsAre(0, 1, 2));
}

TEST(SelectBlocksTest, TiesGoToTheLowerBlock) {
  EXPECT_THAT(Select({-1, -1, -1, -1}, 2, 2), ElementsAre(0, 1));
  EXPECT_THAT(Select({-5, -1, -5, -5, -1, -5}, 3, 3), ElementsAre(0, 1, 4));
  EXPECT_THAT(Select({-0.0f, 0.0f, -0.0f}, 1, 1), ElementsAre(0));
  EXPECT_THAT(Select({0.0f, -1, -0.0f, 0.0f}, 2, 2), ElementsAre(0, 2));
}

TEST(SelectBlocksTest, InfinitiesAndNaN) {
  EXPECT_THAT(Select({-kInfinity, -1e38f, -kInfinity, kInfinity}, 2, 2), ElementsAre(1, 3));
  EXPECT_THAT(Select({-kInfinity, -kInfinity, -kInfinity}, 2, 2), ElementsAre(0, 1));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(Select({nan, -1, nan, -2}, 2, 2), Select({nan, -1, nan, -2}, 2, 2));
}

TEST(SelectBlocksTest, AgreesWithASort) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    const int blocks = 1 + static_cast<int>(random() % 300), top = 1 + static_cast<int>(random() % 40);
    std::vector<float> score(static_cast<size_t>(blocks));
    for (float& x : score) x = -static_cast<float>(random() % 50);  // many ties
    std::vector<int32_t> expected(static_cast<size_t>(blocks));
    std::iota(expected.begin(), expected.end(), 0);
    std::stable_sort(expected.begin(), expected.end(),
                     [&](int a, int b) { return score[static_cast<size_t>(a)] > score[static_cast<size_t>(b)]; });
    expected.resize(static_cast<size_t>(std::min(blocks, top)));
    std::sort(expected.begin(), expected.end());
    expected.resize(static_cast<size_t>(top), -1);
    ASSERT_EQ(Select(score, top, std::min(blocks, top)), expected);
  }
}

class MicroKernelsTest : public testing::TestWithParam<const MicroKernels*> {};

std::vector<const MicroKernels*> AllTables() {
  std::vector<const MicroKernels*> tables = {&PortableKernels(false), &PortableKernels(true)};
  for (CpuIsa isa : AvailableIsas()) {
    if (isa == CpuIsa::kAvx2) tables.insert(tables.end(), {&Avx2Kernels(false), &Avx2Kernels(true)});
    if (isa == CpuIsa::kAvx512) tables.insert(tables.end(), {&Avx512Kernels(false), &Avx512Kernels(true)});
    if (isa == CpuIsa::kAvx512Bf16) tables.push_back(&Avx512Bf16Kernels());
    if (isa == CpuIsa::kAmx) tables.push_back(&AmxKernels());
  }
  return tables;
}

TEST_P(MicroKernelsTest, ExponentialIsAccurate) {
  const MicroKernels& kernels = *GetParam();
  KeyMask mask;
  std::memset(&mask, 0xff, sizeof(mask));
  double worst = 0, total_error = 0;
  for (float from = 0; from > -126.0f; from -= 3.7f) {
    std::vector<float> scores(kScoreStride);
    for (int i = 0; i < kSplitKeys; ++i)
      scores[static_cast<size_t>(i)] = std::max(from - static_cast<float>(i) / 137, -126.0f);
    const std::vector<float> x = scores;
    const double sum = kernels.exp_row(scores.data(), mask, 0xff, 1.0f, 0.0f);
    double expected_sum = 0;
    for (int i = 0; i < kSplitKeys; ++i) {
      float y = scores[static_cast<size_t>(i)];
      if (kernels.pairs) {
        uint16_t half;
        std::memcpy(&half, reinterpret_cast<const char*>(scores.data()) + 2 * i, 2);
        y = std::bit_cast<float>(uint32_t{half} << 16);
      }
      const double expected = std::exp2(static_cast<double>(x[static_cast<size_t>(i)]));
      expected_sum += expected;
      worst = std::max(worst, std::abs(y / expected - 1));
    }
    total_error = std::max(total_error, std::abs(sum / expected_sum - 1));
  }
  EXPECT_LE(worst, kernels.pairs ? 1.01 / 256 : 2.0 / (1 << 23));  // half a unit of bf16, or 2 ulp of fp32
  EXPECT_LE(total_error, kernels.pairs ? 5e-6 : 5e-7);
}

TEST_P(MicroKernelsTest, MaskedAndVanishingScoresAreExactZeros) {
  const MicroKernels& kernels = *GetParam();
  KeyMask mask = {};
  mask.lane[0] = 0b101;
  mask.vectors = 1;
  mask.any = 1;
  std::vector<float> scores(kScoreStride, std::numeric_limits<float>::quiet_NaN());
  scores[0] = 0.0f;
  scores[2] = -1000.0f;
  EXPECT_EQ(kernels.max_row(scores.data(), mask, 1), 0.0f);
  EXPECT_NEAR(kernels.exp_row(scores.data(), mask, 1, 1.0f, 0.0f), 1.0f, 5e-6f);
  const int bytes = kTileKeys * (kernels.pairs ? 2 : 4), element = kernels.pairs ? 2 : 4;
  for (int i = 3 * element; i < bytes; ++i) EXPECT_EQ(reinterpret_cast<const char*>(scores.data())[i], 0) << i;
}

TEST_P(MicroKernelsTest, StoreRoundsToNearestEven) {
  const std::vector<float> x = {1.0f,      1.00390625f, 1.01171875f, -1.0039064f, 3.4e38f,
                                kInfinity, -kInfinity,  -0.0f,       1e-40f};
  const std::vector<uint16_t> expected = {0x3f80, 0x3f80, 0x3f82, 0xbf81, 0x7f80, 0x7f80, 0xff80, 0x8000, 0x0001};
  std::vector<uint16_t> got(x.size() + 1, 0x1234);
  GetParam()->store(x.data(), 1.0f, static_cast<int>(x.size()), got.data(), true);
  EXPECT_EQ(got.back(), 0x1234);
  got.pop_back();
  EXPECT_EQ(got, expected);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  uint16_t half;
  GetParam()->store(&nan, 1.0f, 1, &half, true);
  EXPECT_TRUE(std::isnan(std::bit_cast<float>(uint32_t{half} << 16)));
}

INSTANTIATE_TEST_SUITE_P(All, MicroKernelsTest, testing::ValuesIn(AllTables()), [](const auto& info) {
  std::string name;
  for (char c : std::string(info.param->name)) {
    if (std::isalnum(static_cast<unsigned char>(c))) name += c;
  }
  return name;
});

// One sequence of any length whose pages lie anywhere: only what the test needs is real memory.
struct SingleDecode {
  int32_t start[2] = {0, 1};
  int32_t sequence = 0, position = 0;
  std::vector<float> q, out;
  std::vector<int32_t> table, ids, counts;
  std::vector<std::byte> workspace;
  DenseAttentionParams p;
  BlockSelection selection;

  SingleDecode(const Shape& shape, int context, int threads) : position(context - 1) {
    q.assign(static_cast<size_t>(shape.heads * shape.qk_dim), 0.0f);
    out.resize(static_cast<size_t>(shape.heads * shape.v_dim));
    ids.resize(static_cast<size_t>(shape.groups * shape.top));
    counts.resize(static_cast<size_t>(shape.groups));
    selection = {shape.block, shape.top, ids.data(), counts.data()};
    StepLimits limits{.max_tokens = 1,
                      .max_context = context,
                      .max_heads = shape.heads,
                      .max_qk_dim = shape.qk_dim,
                      .max_v_dim = shape.v_dim,
                      .kv_heads_min = shape.groups,
                      .min_block = shape.block};
    workspace.resize(AttentionWorkspaceBytes(threads, limits));
    p.batch = {1, 1, start, &sequence, &position};
    p.q = q.data();
    p.q_stride = shape.heads * shape.qk_dim;
    p.heads = shape.heads;
    p.scale = 1.0f;
    p.out = out.data();
    p.select = &selection;
    const int64_t element = static_cast<int64_t>(SizeOf(shape.dtype));
    p.kv.page_tokens = shape.page;
    p.kv.kv_heads = shape.groups;
    p.kv.qk_dim = shape.qk_dim;
    p.kv.v_dim = shape.v_dim;
    p.kv.dtype = shape.dtype;
    p.kv.v_offset = shape.groups * shape.page * shape.qk_dim * element;
    p.kv.page_stride = p.kv.v_offset + shape.groups * shape.page * shape.v_dim * element;
    p.kv.table_stride = (context + shape.page - 1) / shape.page;
    table.resize(static_cast<size_t>(p.kv.table_stride));
    std::iota(table.begin(), table.end(), 0);
    p.kv.block_table = table.data();
  }
  OpContext ctx() { return {nullptr, workspace.data(), workspace.size()}; }
};

// 131,072 keys, all alike but for one needle in each of a few blocks.
TEST(AttentionLimitsTest, LongContext) {
  for (CpuIsa isa : AvailableIsas()) {
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      for (int threads : {1, 3}) {
        const Shape shape{.heads = 3, .groups = 1, .block = 64, .top = 4, .dtype = dtype};
        constexpr int kContext = 131072;
        SingleDecode decode(shape, kContext, threads);
        std::vector<std::byte> pages(static_cast<size_t>(decode.p.kv.page_stride) * decode.table.size());
        decode.p.kv.base = pages.data();
        // k = 0 but for the needles; v = 1.
        for (size_t i = 0; i < pages.size(); i += static_cast<size_t>(decode.p.kv.page_stride)) {
          const float one = 1.0f;
          for (int e = 0; e < 64 * 16; ++e) {
            std::byte* at = pages.data() + i + decode.p.kv.v_offset + e * static_cast<int>(SizeOf(dtype));
            std::memcpy(at, reinterpret_cast<const char*>(&one) + (dtype == DType::kF32 ? 0 : 2), SizeOf(dtype));
          }
        }
        for (int needle : {7, 70000, 100001, kContext - 1}) {
          const float eight = 8.0f;
          std::byte* at =
              pages.data() + needle / 64 * decode.p.kv.page_stride + needle % 64 * 16 * static_cast<int>(SizeOf(dtype));
          std::memcpy(at, reinterpret_cast<const char*>(&eight) + (dtype == DType::kF32 ? 0 : 2), SizeOf(dtype));
        }
        decode.q[0] = 1.0f;
        ThreadPool pool(threads);
        DenseAttention(pool, isa, decode.ctx(), decode.p);
        EXPECT_THAT(decode.ids, ElementsAre(0, 70000 / 64, 100001 / 64, kContext / 64 - 1)) << Name(isa);
        for (float x : decode.out) EXPECT_NEAR(x, 1.0f, 2e-5f) << Name(isa);
      }
    }
  }
}

// Pages a gigabyte apart: every offset is 64-bit.
TEST(AttentionLimitsTest, OffsetsBeyond32Bits) {
  constexpr int64_t kStride = int64_t{1} << 30, kPages = 6;
  void* memory =
      mmap(nullptr, kStride * kPages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) GTEST_SKIP() << "no 6 GiB of address space";
  const Shape shape{.heads = 1, .groups = 1, .block = 64, .top = 2};
  SingleDecode decode(shape, 64 * kPages, 1);
  decode.p.kv.base = static_cast<std::byte*>(memory);
  decode.p.kv.page_stride = kStride;
  decode.q[0] = 1.0f;
  for (int64_t page = 0; page < kPages; ++page) {
    const float k = page == 4 ? 100.0f : 0.0f, v = static_cast<float>(page);
    std::memcpy(decode.p.kv.base + page * kStride, &k, 4);
    std::memcpy(decode.p.kv.base + page * kStride + decode.p.kv.v_offset, &v, 4);
  }
  ThreadPool pool(1);
  DenseAttention(pool, CpuIsa::kAvx2, decode.ctx(), decode.p);
  EXPECT_FLOAT_EQ(decode.out[0], 4.0f);
  EXPECT_THAT(decode.ids, ElementsAre(0, 4));
  munmap(memory, kStride * kPages);
}

TEST(AttentionLimitsTest, EmptyBatchTouchesNothing) {
  ThreadPool pool(2);
  const int32_t start[1] = {0};
  DenseAttentionParams dense;
  dense.batch.query_start = start;
  DenseAttention(pool, CpuIsa::kAvx2, OpContext{}, dense);
  SparseAttentionParams sparse;
  sparse.batch.query_start = start;
  SparseAttention(pool, CpuIsa::kAvx2, OpContext{}, sparse);
  WindowAttentionParams window;
  window.batch.query_start = start;
  WindowAttention(pool, CpuIsa::kAvx2, OpContext{}, window);
  KvWriteParams write;
  write.batch.query_start = start;
  KvWrite(pool, write);
}

// Sequences without rows in this step may stand in the batch.
TEST(AttentionLimitsTest, SequencesWithoutRows) {
  const Shape shape;
  const Inputs in(shape, 90, 2);
  const Outputs alone = Runner(CpuIsa::kAvx2, 1, shape).Run({in}, {{{0, 90}}})[0];
  const Inputs other(shape, 5, 3);
  const auto both = Runner(CpuIsa::kAvx2, 2, shape).Run({other, in}, {{{0, 2}}, {{0, 0}, {1, 90}}, {{1, 0}, {0, 3}}});
  EXPECT_EQ(both[1], alone);
}

TEST(AttentionLimitsTest, NothingSelectedIsZero) {
  const float sink = 1.0f;
  const float* sinks[] = {nullptr, &sink};
  for (const float* with : sinks) {
    SingleDecode decode({.heads = 1, .groups = 1, .block = 64, .top = 2}, 64, 1);
    std::vector<std::byte> page(static_cast<size_t>(decode.p.kv.page_stride));
    decode.p.kv.base = page.data();
    decode.p.sink = with;
    decode.ids = {-1, -1};
    decode.counts = {0};
    std::fill(decode.out.begin(), decode.out.end(), 5.0f);
    SparseAttentionParams p{decode.p, decode.selection};
    ThreadPool pool(1);
    SparseAttention(pool, CpuIsa::kAvx2, decode.ctx(), p);
    EXPECT_THAT(decode.out, testing::Each(0.0f));
  }
}

TEST(KvWriteTest, BeginsAtAFirstPosition) {
  const Shape shape{.heads = 2, .groups = 2, .qk_dim = 5, .v_dim = 3, .page = 4};
  const Inputs in(shape, 14, 9);
  const int32_t start[3] = {0, 7, 14}, first[2] = {4, 0};
  std::vector<int32_t> sequence, position;
  for (int t = 0; t < 14; ++t) {
    sequence.push_back(t / 7);
    position.push_back(t % 7);
  }
  KvWriteParams p;
  p.batch = {14, 2, start, sequence.data(), position.data()};
  p.k = in.k.data();
  p.v = in.v.data();
  p.k_stride = 10;
  p.v_stride = 6;
  ThreadPool pool(2);
  const auto write = [&](const int32_t* first_position) {
    Cache cache(shape, 4, {7, 7}, 5);
    cache.Hold(0, 0, 7);
    cache.Hold(1, 0, 7);
    p.kv = cache.View({0, 1});
    p.first_position = first_position;
    KvWrite(pool, p);
    return std::pair(p.kv.block_table[p.kv.table_offset(0)] * p.kv.page_stride, cache.memory());
  };
  auto [page, expected] = write(nullptr);
  // Sequence 0's first page holds positions 0 to 3: as it was.
  std::fill_n(expected.begin() + page, p.kv.page_stride, std::byte{0xff});
  EXPECT_EQ(write(first).second, expected);
}

TEST(KvWriteTest, WritesOnlyTheRowsOfTheStep) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const Shape shape{.heads = 2, .groups = 2, .qk_dim = 5, .v_dim = 3, .page = 4, .dtype = dtype};
    const Inputs in(shape, 7, 9);
    Cache cache(shape, 4, {7}, 5);
    cache.Hold(0, 0, 7);
    const std::vector<std::byte> before = cache.memory();
    const PagedKv kv = cache.View({0});
    const int32_t start[2] = {0, 3}, sequence[3] = {0, 0, 0}, position[3] = {2, 3, 4};
    KvWriteParams p;
    p.batch = {3, 1, start, sequence, position};
    p.k = in.k.data();
    p.v = in.v.data();
    p.k_stride = 10;
    p.v_stride = 6;
    p.v_scale = 0.5f;
    p.kv = kv;
    ThreadPool pool(2);
    KvWrite(pool, p);
    std::vector<std::byte> expected = before;
    const size_t element = SizeOf(dtype);
    for (int t = 0; t < 3; ++t) {
      for (int g = 0; g < 2; ++g) {
        const int64_t page = kv.block_table[position[t] / 4] * kv.page_stride, row = g * 4 + position[t] % 4;
        auto put = [&](int64_t at, float x) {
          const float rounded = RoundTo(dtype, x);
          std::memcpy(expected.data() + at, reinterpret_cast<const char*>(&rounded) + 4 - element, element);
        };
        const int64_t bytes = static_cast<int64_t>(element);
        for (int d = 0; d < 5; ++d) put(page + (row * 5 + d) * bytes, in.k[static_cast<size_t>(t * 10 + g * 5 + d)]);
        for (int e = 0; e < 3; ++e) {
          put(page + kv.v_offset + (row * 3 + e) * bytes, 0.5f * in.v[static_cast<size_t>(t * 6 + g * 3 + e)]);
        }
      }
    }
    EXPECT_EQ(cache.memory(), expected);
  }
}

}  // namespace
}  // namespace hysparse::cpu
