// Slabs and pages: the layout's arithmetic, ownership, conservation and moves.
#include "engine/kv/arena.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

#include "absl/strings/match.h"

namespace hysparse {
namespace {

KvLayout Layout(int64_t global_page_bytes, int64_t window_page_bytes) {
  KvLayout layout;
  layout.global = {1, 64, 0, global_page_bytes / 64};
  if (window_page_bytes > 0) layout.window = {1, 64, 128, window_page_bytes / 64};
  return layout;
}

// Pages of 4 and of 6 to a slab.
ArenaLayout Slabs(int32_t slabs) { return {48, slabs, {4, 12, 12}, {6, 8, 8}}; }

TEST(ArenaLayout, StridesDivideTheSlabAndLittleIsLost) {
  struct Case {
    int64_t global, window, arena;
  };
  const int64_t gib = int64_t{1} << 30;
  for (const auto& [global, window, arena] :
       std::vector<Case>{{64 * 5 * 2048, 64 * 44 * 2048, 40 * gib},  // 49 layers, 5 full
                         {64 * 4 * 4096, 64 * 32 * 4096, 20 * gib},  // 36 layers, 4 full
                         {64 * 1280, 64 * 768, gib},
                         {64 * 7, 64 * 1021, 64 << 20},
                         {64 * 8, 64 * 4, 1 << 20},
                         {64 * 96, 0, 1 << 20}}) {
    SCOPED_TRACE(testing::Message() << global << " " << window);
    const ArenaLayout made = MakeArenaLayout(Layout(global, window), arena).value();
    EXPECT_GE(made.slabs, 32);
    EXPECT_LE(made.bytes(), arena);
    EXPECT_GE(static_cast<double>(made.bytes()), 0.97 * static_cast<double>(arena));
    for (const KvClass kv_class : {KvClass::kGlobal, KvClass::kWindow}) {
      const ArenaClassLayout& of = made.of(kv_class);
      if (of.pages_per_slab == 0) continue;
      EXPECT_EQ(of.pages_per_slab * of.page_stride, made.slab_bytes);
      EXPECT_GE(of.page_stride, of.page_bytes);
      EXPECT_GE(static_cast<double>(of.pages_per_slab * of.page_bytes), 0.99 * static_cast<double>(made.slab_bytes));
    }
  }
}

TEST(ArenaLayout, AnArenaSmallerThanAPageIsRefusedWithTheNumbers) {
  for (const int64_t bytes : {int64_t{-5}, int64_t{0}, int64_t{6000}}) {
    const absl::Status status = MakeArenaLayout(Layout(64 * 96, 64 * 32), bytes).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_TRUE(absl::StrContains(status.message(), "global 6144 bytes, window 2048 bytes")) << status;
  }
  EXPECT_EQ(MakeArenaLayout(Layout(64, 64), INT64_MAX / 2).status().code(), absl::StatusCode::kInvalidArgument)
      << "more pages than 32 bits number";
}

TEST(BitTree, FindsTheLowest) {
  for (const int32_t size : {1, 64, 65, 5000}) {
    BitTree tree(size);
    std::set<int32_t> expected;
    std::mt19937 rng(static_cast<uint32_t>(size));
    for (int i = 0; i < 3000; ++i) {
      const auto at = static_cast<int32_t>(rng() % static_cast<uint32_t>(size));
      rng() % 2 ? (tree.Set(at), (void)expected.insert(at)) : (tree.Clear(at), (void)expected.erase(at));
      ASSERT_EQ(tree.First(), expected.empty() ? -1 : *expected.begin());
    }
  }
  EXPECT_EQ(BitTree(0).First(), -1);
}

TEST(Arena, SlabsGoToTheClassThatAsksAndComeBackEmpty) {
  Arena arena(Slabs(2));
  {
    std::optional<BlockRef> global = arena.Take(KvClass::kGlobal), window = arena.Take(KvClass::kWindow);
    ASSERT_TRUE(global && window);
    EXPECT_EQ(arena.unassigned_slabs(), 0);
    EXPECT_EQ(arena.counts(KvClass::kGlobal).free, 3);
    EXPECT_EQ(arena.counts(KvClass::kWindow).free, 5);
    BlockRef moved = *std::move(global);  // neither frees nor doubles
    EXPECT_EQ(arena.counts(KvClass::kGlobal).referenced, 1);
  }
  EXPECT_EQ(arena.unassigned_slabs(), 2);
  std::vector<BlockRef> all;
  while (std::optional<BlockRef> page = arena.Take(KvClass::kWindow)) all.push_back(*std::move(page));
  EXPECT_EQ(all.size(), 12u) << "one class may have all";
  EXPECT_FALSE(arena.Take(KvClass::kGlobal));
}

TEST(Arena, AClassWithoutPagesGivesNone) {
  Arena arena({64, 3, {1, 64, 64}, {}});
  EXPECT_TRUE(arena.Take(KvClass::kGlobal));
  EXPECT_FALSE(arena.Take(KvClass::kWindow));
}

TEST(Arena, APageIsFreeWhenNobodyOwnsCachesOrSpillsIt) {
  Arena arena(Slabs(1));
  std::optional<BlockRef> page = arena.Take(KvClass::kGlobal);
  const int32_t id = page->page();
  arena.Cache(KvClass::kGlobal, id);
  for (int i = 0; i < 2; ++i) arena.BeginSpill(KvClass::kGlobal, id);
  std::optional<BlockRef> second = arena.Share(KvClass::kGlobal, id);
  page.reset();
  EXPECT_EQ(arena.counts(KvClass::kGlobal).referenced, 1);
  second.reset();
  EXPECT_EQ(arena.counts(KvClass::kGlobal).spilling, 1);
  arena.EndSpill(KvClass::kGlobal, id);
  EXPECT_EQ(arena.counts(KvClass::kGlobal).spilling, 1) << "one of two copies is done";
  EXPECT_EQ(arena.SparsestSlab(KvClass::kGlobal), -1) << "a page that spills cannot move";
  arena.EndSpill(KvClass::kGlobal, id);
  EXPECT_EQ(arena.counts(KvClass::kGlobal).cached, 1);
  arena.Uncache(KvClass::kGlobal, id);
  EXPECT_EQ(arena.unassigned_slabs(), 1);
}

TEST(Arena, CheckSeesLeaksAndDoubleOwners) {
  Arena arena(Slabs(2));
  BlockTable table(&arena, KvClass::kGlobal), other(&arena, KvClass::kGlobal);
  table.Append(*arena.Take(KvClass::kGlobal));
  table.Append(*arena.Take(KvClass::kGlobal));
  using Owners = std::vector<std::span<const int32_t>>;
  EXPECT_TRUE(arena.Check(KvClass::kGlobal, Owners{table.pages(), other.pages()}).ok());
  EXPECT_FALSE(arena.Check(KvClass::kGlobal, Owners{other.pages()}).ok()) << "two pages belong to nobody";
  EXPECT_FALSE(arena.Check(KvClass::kGlobal, Owners{table.pages(), table.pages()}).ok()) << "two owners each";
  EXPECT_FALSE(arena.Check(KvClass::kWindow, Owners{table.pages()}).ok()) << "of the other class";
  const std::vector<int32_t> none = {99};
  EXPECT_FALSE(arena.Check(KvClass::kGlobal, Owners{table.pages(), none}).ok()) << "no such page";
}

TEST(Arena, MoveTakesOverOwnersAndHoldsAndEmptiesTheSlab) {
  Arena arena(Slabs(3));
  std::vector<BlockRef> pages;
  for (int i = 0; i < 5; ++i) pages.push_back(*arena.Take(KvClass::kGlobal));
  const int32_t last = pages.back().page();
  BlockTable a(&arena, KvClass::kGlobal), b(&arena, KvClass::kGlobal);
  b.Append(arena.Share(KvClass::kGlobal, last));
  a.Append(std::move(pages.back()));
  pages.pop_back();
  pages.erase(pages.begin());  // room in the first slab
  arena.Cache(KvClass::kGlobal, last);
  const int32_t slab = arena.SparsestSlab(KvClass::kGlobal);
  EXPECT_EQ(arena.UsedPages(slab), std::vector<int32_t>{last});
  arena.CloseSlab(slab);
  BlockRef to = *arena.Take(KvClass::kGlobal);
  const int32_t target = to.page();
  EXPECT_NE(target / 4, slab) << "a closed slab hands out nothing";
  arena.Move(KvClass::kGlobal, last, std::move(to));
  a.Renumber(0, target);
  b.Renumber(0, target);
  arena.OpenSlab(slab);
  EXPECT_EQ(arena.references(KvClass::kGlobal, target), 2);
  EXPECT_EQ(arena.unassigned_slabs(), 2);
  a.Clear(), b.Clear();
  EXPECT_EQ(arena.counts(KvClass::kGlobal).cached, 1);
  arena.Uncache(KvClass::kGlobal, target);
}

TEST(BlockTable, DropsPagesAtBothEnds) {
  Arena arena(Slabs(2));
  BlockTable table(&arena, KvClass::kGlobal);
  for (int i = 0; i < 6; ++i) table.Append(*arena.Take(KvClass::kGlobal));
  const std::vector<int32_t> pages(table.pages().begin(), table.pages().end());
  table.DropBefore(2);
  table.DropFrom(5);
  EXPECT_EQ(table.first_page(), 2);
  EXPECT_EQ(table.end_page(), 5);
  EXPECT_EQ(std::vector<int32_t>(table.pages().begin(), table.pages().end()),
            std::vector<int32_t>(pages.begin() + 2, pages.begin() + 5));
  EXPECT_TRUE(table.holds(4));
  EXPECT_FALSE(table.holds(1) || table.holds(5));
  EXPECT_EQ(arena.counts(KvClass::kGlobal).referenced, 3);
  table.DropBefore(1);  // already gone
  EXPECT_EQ(table.first_page(), 2);
  table.Replace(3, *arena.Take(KvClass::kGlobal));
  EXPECT_EQ(arena.counts(KvClass::kGlobal).referenced, 3);
  table.Clear();
  EXPECT_EQ(arena.unassigned_slabs(), 2);
}

}  // namespace
}  // namespace hysparse
