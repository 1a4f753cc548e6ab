// A row's bits depend on nothing else in the step: not on where the prompt was cut, not on the other sequences, not on
// the number of threads.
#include <gtest/gtest.h>

#include "tests/unit/kernels/attention_test_util.h"

namespace hysparse::cpu {
namespace {

class AttentionInvarianceTest : public testing::TestWithParam<std::tuple<Level, DType>> {
 protected:
  Level level() const { return std::get<0>(GetParam()); }
  DType dtype() const { return std::get<1>(GetParam()); }
  Outputs Alone(const Shape& shape, const Inputs& in, int chunk, int threads) const {
    return Runner(level(), threads, shape).Run({in}, InChunks(in.length, chunk))[0];
  }
};

TEST_P(AttentionInvarianceTest, ChunkBoundaries) {
  for (Shape shape : {Shape{.block = 64, .top = 3}, Shape{.heads = 3, .groups = 1, .page = 8, .block = 8, .window = 16},
                      Shape{.heads = 16, .groups = 1, .qk_dim = 24, .block = 32, .top = 6}}) {
    shape.dtype = dtype();
    const Inputs in(shape, 600, 4);
    const Outputs whole = Alone(shape, in, 600, 1);
    for (int chunk : {7, 64, 200}) EXPECT_EQ(Alone(shape, in, chunk, 1), whole) << "chunks of " << chunk;
    // Single tokens at the start, and over the end of the first split.
    std::vector<std::vector<Chunk>> single(70, {{0, 1}});
    single.push_back({{0, 420}});
    single.resize(181, {{0, 1}});
    EXPECT_EQ(Runner(level(), 1, shape).Run({in}, single)[0], whole);
  }
}

TEST_P(AttentionInvarianceTest, Threads) {
  // Decodes at 1,200 tokens have their splits spread over the threads; one thread walks through them.
  Shape shape{.heads = 6, .groups = 2, .block = 64, .top = 5, .dtype = dtype()};
  const Inputs in(shape, 1216, 4);
  auto run = [&](int threads) {
    std::vector<std::vector<Chunk>> steps = {{{0, 1200}}, {{0, 12}}};
    for (int i = 0; i < 4; ++i) steps.push_back({{0, 1}});
    return Runner(level(), threads, shape).Run({in}, steps)[0];
  };
  const Outputs one = run(1);
  for (int threads : {2, 3, 8}) EXPECT_EQ(run(threads), one) << threads << " threads";
}

TEST_P(AttentionInvarianceTest, OtherSequences) {
  Shape shape{.heads = 6, .groups = 2, .page = 32, .block = 16, .top = 5, .window = 64, .dtype = dtype()};
  std::vector<Inputs> inputs;
  std::vector<Outputs> alone;
  for (int length : {300, 1, 77, 129, 700}) {
    inputs.emplace_back(shape, length, static_cast<uint32_t>(length));
    alone.push_back(Alone(shape, inputs.back(), length, 1));
  }
  std::mt19937 random(7);
  for (int threads : {1, 4}) {
    std::vector<int> left;
    for (const Inputs& in : inputs) left.push_back(in.length);
    std::vector<std::vector<Chunk>> steps;
    while (std::any_of(left.begin(), left.end(), [](int n) { return n > 0; })) {
      std::vector<Chunk> step;
      for (size_t s = 0; s < left.size(); ++s) {
        if (left[s] == 0 || random() % 3 == 0) continue;
        const int limit = random() % 2 == 0 ? 1 : 150;
        const int count = std::min(left[s], 1 + static_cast<int>(random() % static_cast<uint32_t>(limit)));
        step.push_back({static_cast<int>(s), count});
        left[s] -= count;
      }
      std::shuffle(step.begin(), step.end(), random);
      if (!step.empty()) steps.push_back(step);
    }
    const std::vector<Outputs> together = Runner(level(), threads, shape).Run(inputs, steps);
    for (size_t s = 0; s < inputs.size(); ++s) EXPECT_EQ(together[s], alone[s]) << "sequence " << s;
  }
}

INSTANTIATE_TEST_SUITE_P(All, AttentionInvarianceTest,
                         testing::Combine(testing::ValuesIn(AllLevels()), testing::Values(DType::kF32, DType::kBF16)),
                         [](const auto& info) {
                           return LevelName(std::get<0>(info.param)) + "_" + Name(std::get<1>(info.param));
                         });

}  // namespace
}  // namespace hysparse::cpu
