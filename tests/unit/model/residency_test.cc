#include "engine/kv/residency.h"

#include <cmath>

#include "engine/kv/room.h"
#include "gtest/gtest.h"
#include "tests/unit/model/model_folder.h"

namespace hysparse {
namespace {

constexpr int64_t kMillion = 1048576;

// 49 layers of 64/4 heads, 192/128 dims; the first `full` layers of the pattern are full, the others of `kind`.
ModelSpec Paper80B(int full, LayerKind kind) {
  ModelSpec spec;
  spec.hidden = 2048;
  spec.max_context = kMillion;
  for (int l = 0; l < 49; ++l) {
    LayerSpec layer;
    layer.kind = l < full ? LayerKind::kFull : kind;
    layer.heads = 64;
    layer.kv_heads = 4;
    layer.qk_dim = 192;
    layer.v_dim = 128;
    layer.window = l < full ? 0 : 128;
    layer.block = kind == LayerKind::kSparse ? 64 : 0;
    spec.layers.push_back(layer);
  }
  return spec;
}

double Gigabytes(int64_t bytes) { return std::round(static_cast<double>(bytes) / 1e7) / 100; }

// Published: arXiv 2609.26368, figure 4.
TEST(Residency, ReproducesThePublishedFigures) {
  EXPECT_EQ(Gigabytes(ResidentBytes(Paper80B(5, LayerKind::kSparse), kMillion, 1).total()), 6.72);
  EXPECT_EQ(Gigabytes(ResidentBytes(Paper80B(9, LayerKind::kSwa), kMillion, 1).total()), 12.09);
  EXPECT_EQ(Gigabytes(ResidentBytes(Paper80B(49, LayerKind::kFull), kMillion, 1).total()), 65.77);
  EXPECT_EQ(FullAttentionBytes(Paper80B(5, LayerKind::kSparse), kMillion, 1),
            ResidentBytes(Paper80B(49, LayerKind::kFull), kMillion, 1).total());
}

TEST(Residency, AWindowHoldsNoMoreThanThereIs) {
  const ModelSpec spec = Paper80B(5, LayerKind::kSparse);
  const int64_t layer = 4 * (192 + 128) * 2;
  EXPECT_EQ(ResidentBytes(spec, 100, 2).global, 5 * layer * 100);
  EXPECT_EQ(ResidentBytes(spec, 100, 2).window, 44 * layer * 100);
  EXPECT_EQ(ResidentBytes(spec, 1000, 2).window, 44 * layer * 128);
}

TEST(Residency, ARankHoldsItsShareOfTheHeadsAndOneAtLeast) {
  const ModelSpec spec = Paper80B(5, LayerKind::kSparse);  // 4 KV heads
  const int64_t whole = ResidentBytes(spec, 1000, 2).total();
  EXPECT_EQ(ResidentBytes(spec, 1000, 2, 2).total(), whole / 2);
  EXPECT_EQ(ResidentBytes(spec, 1000, 2, 3).total(), whole / 2);
  EXPECT_EQ(ResidentBytes(spec, 1000, 2, 16).total(), whole / 4);
  const KvLayout one = MakeKvLayout(spec, DType::kBF16), rank = MakeKvLayout(spec, DType::kBF16, 2);
  EXPECT_EQ(rank.global.page_bytes(), one.global.page_bytes() / 2);
  EXPECT_EQ(rank.window.page_bytes(), one.window.page_bytes() / 2);
  EXPECT_EQ(rank.global.page_tokens, one.global.page_tokens);
  EXPECT_EQ(rank.layers[0].kv_heads, 2);
  EXPECT_EQ(rank.layers[1].offset, one.layers[1].offset / 2);
}

TEST(KvLayout, PacksTheLayersOfAPageWithoutGaps) {
  ModelFolder folder;
  nlohmann::json config = TinyConfig();
  config.update({{"hybrid_layer_pattern", {0, 2, 1, 0}},
                 {"swa_head_dim", 16},
                 {"swa_num_key_value_heads", 1},
                 {"swa_num_attention_heads", 4},
                 {"v_head_dim", 4},
                 {"swa_v_head_dim", 6}});
  folder.WriteConfig(config);
  const auto spec = ReadModelSpec(folder.path());
  ASSERT_TRUE(spec.ok()) << spec.status();
  const KvLayout layout = MakeKvLayout(*spec, DType::kBF16);
  EXPECT_EQ(layout.global.page_tokens, 64);
  EXPECT_EQ(layout.window.page_tokens, 16);
  EXPECT_EQ(layout.window.window, 16);
  EXPECT_EQ(layout.global.token_bytes, 2 * 2 * (8 + 4) * 2);
  EXPECT_EQ(layout.window.token_bytes, 1 * (8 + 4) * 2 + 1 * (16 + 6) * 2);
  const KvLayerLayout &first = layout.layers[0], &sparse = layout.layers[1], &swa = layout.layers[2],
                      &last = layout.layers[3];
  EXPECT_EQ(first.offset, 0);
  EXPECT_EQ(first.v_offset, 2 * 64 * 8 * 2);
  EXPECT_EQ(last.offset, first.v_offset + 2 * 64 * 4 * 2);
  EXPECT_EQ(last.offset * 2, layout.global.page_bytes());
  EXPECT_EQ(sparse.kv_class, KvClass::kWindow);
  EXPECT_EQ(sparse.offset, 0);
  EXPECT_EQ(swa.offset, 16 * (8 + 4) * 2);
  EXPECT_EQ(swa.offset + swa.v_offset + 16 * 6 * 2, layout.window.page_bytes());
}

TEST(KvLayout, PagesSuitBlocksAndWindows) {
  const struct {
    int block, window, global_page, window_page;
  } cases[] = {{8, 128, 64, 64}, {64, 129, 64, 64}, {128, 100, 64, 64}, {48, 50, 48, 32},
               {96, 16, 96, 16}, {24, 9, 48, 8},    {20, 1, 60, 1}};
  for (const auto& c : cases) {
    ModelSpec spec = Paper80B(1, LayerKind::kSparse);
    for (LayerSpec& layer : spec.layers) {
      if (layer.kind != LayerKind::kSparse) continue;
      layer.block = c.block;
      layer.window = c.window;
    }
    const KvLayout layout = MakeKvLayout(spec, DType::kF32);
    EXPECT_EQ(layout.global.page_tokens, c.global_page) << c.block;
    EXPECT_EQ(layout.window.page_tokens, c.window_page) << c.window;
    EXPECT_TRUE(c.block % c.global_page == 0 || c.global_page % c.block == 0);
  }
}

TEST(KvLayout, RoundsTheWindowOutwardsToPages) {
  KvClassLayout window;
  window.layers = 1;
  window.page_tokens = 64;
  window.window = 128;
  EXPECT_EQ(window.PagesFor(0), 0);
  EXPECT_EQ(window.PagesFor(1), 1);
  EXPECT_EQ(window.PagesFor(128), 2);
  EXPECT_EQ(window.PagesFor(129), 3);  // tokens 1 … 128 lie in pages 0, 1 and 2
  EXPECT_EQ(window.PagesFor(192), 2);
  // Whatever the position of a step, its pages are no more than promised.
  for (const int64_t step : {1, 2, 63, 64, 65, 200}) {
    const int64_t most = window.MaxPages(100000, step);
    int64_t seen = 0;
    for (int64_t p = 0; p < 1000; ++p) {
      const int64_t first = std::max<int64_t>(0, p - window.window + 1) / 64, last = (p + step - 1) / 64;
      seen = std::max(seen, last - first + 1);
    }
    EXPECT_EQ(most, seen) << step;
  }
  EXPECT_EQ(window.MaxPages(70, 2048), 2);
  KvClassLayout global;
  global.layers = 1;
  global.page_tokens = 64;
  EXPECT_EQ(global.MaxPages(129, 1), 3);
  EXPECT_EQ(global.PagesFor(129), 3);
}

TEST(KvLayout, CountsSessionsByWholeSlabs) {
  const KvLayout layout = MakeKvLayout(Paper80B(5, LayerKind::kSparse), DType::kBF16);
  ASSERT_EQ(5 * layout.window.page_bytes(), 44 * layout.global.page_bytes());  // a slab holds either
  // 415 sessions of 1,024 tokens: 6,640 global pages in 151 slabs, 1,245 window pages in 249.
  const int64_t slab = 5 * layout.window.page_bytes();
  const PageNeed each = NeedOf(layout, 1024);
  EXPECT_EQ(EmptyRoom(MakeArenaLayout(layout, 400 * slab).value()).Times(each), 415);
  EXPECT_EQ(EmptyRoom(MakeArenaLayout(layout, 400 * slab - 1).value()).Times(each), 413);
  EXPECT_EQ(layout.AllocatedBytes(1024).total(), 16 * layout.global.page_bytes() + 2 * layout.window.page_bytes());
}

TEST(KvLayout, AModelWithoutAClassNeedsNoPagesOfIt) {
  const KvLayout layout = MakeKvLayout(Paper80B(49, LayerKind::kFull), DType::kBF16);
  EXPECT_EQ(layout.window.layers, 0);
  EXPECT_EQ(layout.window.page_bytes(), 0);
  EXPECT_EQ(layout.window.MaxPages(1000, 64), 0);
}

}  // namespace
}  // namespace hysparse
