// Scheduler and BlockManager under random operations: what the harness checks holds at every step, whatever the
// architecture, the memory and the options, with requests cancelled in every state. Millions of operations in release
// builds; sanitizers, ten to twenty times slower, do a tenth.
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "tests/unit/engine/schedule_harness.h"

namespace hysparse {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int64_t kOperations = 400000;
#else
constexpr int64_t kOperations = 4000000;
#endif

struct Architecture {
  std::string name;
  ModelSpec spec;
  KvLayout layout;
};

LayerSpec Layer(LayerKind kind, int32_t window) {
  LayerSpec layer;
  layer.kind = kind;
  layer.heads = layer.kv_heads = 1;
  layer.qk_dim = layer.v_dim = 4;
  layer.window = window;
  if (kind == LayerKind::kSparse) layer.block = 4, layer.top_blocks = 2;
  return layer;
}

Architecture Make(const std::string& name, std::vector<LayerSpec> layers, int32_t global_page, int32_t window_page) {
  Architecture made{name, TestSpec(), {}};
  made.spec.layers = std::move(layers);
  made.layout = MakeKvLayout(made.spec, DType::kF32);
  made.layout.global.page_tokens = global_page;
  if (made.layout.window.layers > 0) made.layout.window.page_tokens = window_page;
  return made;
}

std::vector<Architecture> Architectures() {
  const LayerSpec full = Layer(LayerKind::kFull, 0), swa = Layer(LayerKind::kSwa, 16);
  const LayerSpec sparse = Layer(LayerKind::kSparse, 9);
  return {Make("full", {full, full}, 8, 0), Make("swa", {full, swa, swa, swa}, 8, 4),
          Make("hysparse", {full, sparse, sparse, full, sparse}, 12, 6)};
}

// Random requests of a few tenants whose prompts continue each other's.
class Clients {
 public:
  Clients(std::mt19937& rng, int32_t longest) : rng_(rng), longest_(longest) {
    for (int32_t i = 0; i < 4; ++i) trunks_.push_back(TestPrompt(longest, i));
  }

  GenerateRequest Next() {
    GenerateRequest request = TestRequest(std::to_string(count_++), 1, Below(5) == 0 ? 0 : 1 + Below(40));
    const std::vector<int32_t>& trunk = trunks_[static_cast<size_t>(Below(4))];
    request.prompt.assign(trunk.begin(), trunk.begin() + 1 + Below(static_cast<int32_t>(trunk.size())));
    for (int32_t more = Below(20); more > 0; --more) request.prompt.push_back(Below(101));
    request.cache_salt = std::to_string(Below(3) / 2);
    request.n = Below(4) == 0 ? 2 + Below(2) : 1;
    request.prompt_logprobs = Below(6) == 0;
    request.priority = Below(8) == 0 ? Below(20) - 10 : 0;
    request.sampling.temperature = static_cast<float>(Below(2));
    request.sampling.seed = rng_();
    return request;
  }
  // The next turn of the conversation takes the answer for granted.
  void Heard(const Sequence& sequence) {
    std::vector<int32_t> trunk;
    for (int32_t at = 0; at < std::min(sequence.num_tokens(), longest_); ++at) trunk.push_back(sequence.token(at));
    trunks_[static_cast<size_t>(Below(4))] = std::move(trunk);
  }
  int32_t Below(int32_t end) { return static_cast<int32_t>(rng_() % static_cast<uint32_t>(end)); }

 private:
  std::mt19937& rng_;
  int32_t longest_;
  std::vector<std::vector<int32_t>> trunks_;
  int64_t count_ = 0;
};

// Slabs of several pages, so that pages are moved to empty one.
ArenaLayout Slabs(int32_t pages, int32_t per_slab, const KvLayout& layout) {
  ArenaLayout arena;
  const bool window = layout.window.layers > 0;
  arena.slabs = std::max(2, pages / per_slab);
  arena.global = {per_slab, layout.global.page_bytes(), layout.global.page_bytes()};
  arena.slab_bytes = per_slab * layout.global.page_bytes();
  if (window) arena.window = {per_slab + per_slab / 2, 2, 1};
  return arena;
}

HarnessOptions RandomOptions(std::mt19937& rng, const Architecture& architecture) {
  const auto pick = [&](std::initializer_list<int32_t> of) { return of.begin()[rng() % of.size()]; };
  HarnessOptions options;
  options.spec = architecture.spec;
  EngineOptions& engine = options.engine;
  engine.kv_layout = architecture.layout;
  engine.arena = Slabs(pick({30, 50, 80}), pick({1, 3, 4, 6}), architecture.layout);
  const int32_t host = pick({0, 20, 400});
  engine.host_arena = host > 0 ? Slabs(host, 2, architecture.layout) : ArenaLayout{};
  engine.max_num_seqs = pick({1, 4, 12});
  engine.max_num_batched_tokens = pick({12, 32, 100});
  engine.output_reserve = pick({0, 0, 6, 64});
  engine.max_overtakes = pick({0, 1, 5, 64});
  engine.shrink_budget_with_depth = rng() % 2 == 0;
  engine.prefix_caching = rng() % 3 > 0;
  options.steps_in_flight = pick({1, 2, 2});
  options.stop_every = static_cast<uint32_t>(pick({0, 30}));
  return options;
}

// All of the arena can be had again: what is cached gives way to one sequence that fills it.
void ExpectEvictableToNothing(BlockManager& blocks) {
  for (const KvClass kv_class : {KvClass::kGlobal, KvClass::kWindow}) {
    EXPECT_EQ(blocks.arena().counts(kv_class).referenced + blocks.arena().counts(kv_class).spilling, 0);
    EXPECT_EQ(blocks.host().counts(kv_class).total(), 0);
    EXPECT_EQ(blocks.promised(kv_class), 0);
  }
  int32_t most = 0;
  while (blocks.CanEverFit(most + 1).ok()) ++most;
  const std::vector<int32_t> tokens(static_cast<size_t>(most) + 1, 1);
  PageNeed need;
  std::unique_ptr<SequenceKv> kv = blocks.Admit({.tokens = tokens, .hashes = {}, .salt = {}, .promise = most}, &need);
  ASSERT_NE(kv, nullptr);
  blocks.BeginPlan(UINT64_MAX);
  while (kv->num_tokens() < most) {
    ASSERT_EQ(kv->MaxAppend(1), 1);
    ASSERT_TRUE(kv->BeginAppend(1));
    kv->EndAppend();
  }
  EXPECT_EQ(blocks.arena().counts(KvClass::kGlobal).cached, 0);
  EXPECT_TRUE(blocks.Check().ok()) << blocks.Check();
}

struct Totals {
  int64_t operations = 0, cancels = 0, preemptions = 0, spills = 0, recomputes = 0, returns = 0;
  int64_t moves = 0, hits = 0, rebuilt = 0, evicted = 0;
  int32_t passed = 0;
};

void RunRandom(uint32_t seed, const Architecture& architecture, int64_t operations, Totals& totals) {
  SCOPED_TRACE(testing::Message() << "seed " << seed << ", " << architecture.name);
  std::mt19937 rng(seed);
  ScheduleHarness harness(RandomOptions(rng, architecture));
  Clients clients(rng, 150);
  const auto random_live = [&] {
    auto it = harness.live().begin();
    std::advance(it, clients.Below(static_cast<int32_t>(harness.live().size())));
    return it->second;
  };
  const size_t crowd = 1 + rng() % 40;
  while (harness.operations() < operations) {
    if (harness.live().size() < crowd && rng() % 3 == 0) harness.Add(clients.Next());
    if (!harness.live().empty() && rng() % 24 == 0) clients.Heard(*random_live());
    if (!harness.live().empty() && rng() % 12 == 0) harness.Cancel(*random_live()), ++totals.cancels;
    harness.Turn();
    if (testing::Test::HasFailure()) return;
  }
  harness.Drain();
  if (testing::Test::HasFailure()) return;
  const SchedulerStats& stats = harness.scheduler().stats();
  const PrefixStats& prefix = harness.blocks().prefix_stats();
  totals.operations += harness.operations();
  totals.preemptions += stats.preemptions;
  totals.spills += stats.spills;
  totals.recomputes += stats.recomputes;
  totals.returns += stats.returns;
  totals.moves += static_cast<int64_t>(harness.model().moves);
  totals.hits += prefix.hit_tokens;
  totals.rebuilt += prefix.rebuilt_tokens;
  totals.evicted += prefix.evicted_misses;
  totals.passed = std::max(totals.passed, harness.most_passed());
  ExpectEvictableToNothing(harness.blocks());
}

TEST(ScheduleProperty, MillionsOfRandomOperationsBreakNoInvariant) {
  const std::vector<Architecture> architectures = Architectures();
  Totals totals;
  for (uint32_t seed = 1; totals.operations < kOperations; ++seed) {
    RunRandom(seed, architectures[seed % architectures.size()], 4000, totals);
    ASSERT_FALSE(HasFailure());
  }
  // Every path was taken, or they show little.
  EXPECT_GT(totals.cancels, kOperations / 1000);
  EXPECT_GT(totals.spills, kOperations / 1000);
  EXPECT_GT(totals.recomputes, kOperations / 5000);
  EXPECT_GT(totals.returns, kOperations / 1000);
  EXPECT_GT(totals.moves, kOperations / 1000);
  EXPECT_GT(totals.hits, kOperations / 10);
  EXPECT_GT(totals.rebuilt, kOperations / 100);
  EXPECT_GT(totals.evicted, kOperations / 1000);
  EXPECT_GT(totals.passed, 64);
}

}  // namespace
}  // namespace hysparse
