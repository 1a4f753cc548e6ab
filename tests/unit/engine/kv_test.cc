// Pages, block tables and admission: ownership, sliding, truncation and the conservation laws.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>
#include <vector>

#include "engine/kv/block_manager.h"
#include "engine/kv/page_pool.h"

namespace hysparse {
namespace {

KvClassLayout Class(int32_t page_tokens, int32_t window) {
  KvClassLayout layout;
  layout.layers = 1;
  layout.page_tokens = page_tokens;
  layout.window = window;
  layout.token_bytes = 4;
  return layout;
}

std::vector<std::span<const int32_t>> Tables(std::initializer_list<const BlockTable*> tables) {
  std::vector<std::span<const int32_t>> out;
  for (const BlockTable* table : tables) out.push_back(table->pages());
  return out;
}

TEST(PagePool, DroppingARefFreesItsPage) {
  PagePool pool(2);
  {
    std::optional<BlockRef> a = pool.Allocate(), b = pool.Allocate();
    ASSERT_TRUE(a && b);
    EXPECT_NE(a->page(), b->page());
    EXPECT_FALSE(pool.Allocate());
    EXPECT_EQ(pool.referenced(), 2);
    BlockRef moved = *std::move(a);  // moving neither frees nor doubles
    EXPECT_EQ(pool.referenced(), 2);
  }
  EXPECT_EQ(pool.free(), 2);
  EXPECT_TRUE(pool.Check({}).ok());
}

TEST(PagePool, CheckSeesLeaksAndDoubleOwners) {
  PagePool pool(4);
  BlockTable table(&pool), other(&pool);
  table.Append(*pool.Allocate());
  table.Append(*pool.Allocate());
  EXPECT_TRUE(pool.Check(Tables({&table, &other})).ok());
  EXPECT_FALSE(pool.Check(Tables({&other})).ok()) << "two pages belong to nobody";
  EXPECT_FALSE(pool.Check(Tables({&table, &table})).ok()) << "two pages have two owners";
  pool.Promise(3);
  EXPECT_FALSE(pool.Check(Tables({&table})).ok()) << "three promised, two free";
  pool.Promise(-3);
}

TEST(BlockTable, DropsPagesAtBothEnds) {
  PagePool pool(8);
  BlockTable table(&pool);
  for (int i = 0; i < 6; ++i) table.Append(*pool.Allocate());
  const std::vector<int32_t> pages(table.pages().begin(), table.pages().end());
  table.DropBefore(2);
  table.DropFrom(5);
  EXPECT_EQ(table.first_page(), 2);
  EXPECT_EQ(table.end_page(), 5);
  EXPECT_EQ(std::vector<int32_t>(table.pages().begin(), table.pages().end()),
            std::vector<int32_t>(pages.begin() + 2, pages.begin() + 5));
  EXPECT_EQ(pool.free(), 5);
  table.DropBefore(1);  // already gone
  EXPECT_EQ(table.first_page(), 2);
  table.Clear();
  EXPECT_EQ(pool.free(), 8);
}

TEST(BlockManager, AWindowNeverHoldsMoreThanItsTokensAndOneStepRoundedToPages) {
  for (int32_t page : {1, 4, 8, 16}) {
    for (int32_t window : {16, 17, 30}) {
      for (int32_t step : {1, 7, 40}) {
        const KvClassLayout global = Class(8, 0), slide = Class(page, window);
        BlockManager blocks(global, 100, slide, 100);
        SequenceKv kv = *blocks.Admit(500);
        while (kv.num_tokens() < 500) {
          const int32_t count = kv.MaxAppend(std::min(step, 500 - kv.num_tokens()));
          ASSERT_EQ(count, std::min(step, 500 - kv.num_tokens()));
          const int32_t n = kv.num_tokens();
          kv.BeginAppend(count);
          // Every token that the step reads or writes has a page …
          EXPECT_LE(kv.window().first_page() * page, std::max(0, n - window + 1));
          EXPECT_GE(kv.window().end_page() * page, n + count);
          // … and no more pages than the layout's bound, which the runner's tables are sized for.
          EXPECT_LE(kv.window().size(), slide.MaxPages(500, count));
          kv.EndAppend();
          EXPECT_EQ(kv.window().size(), slide.PagesFor(kv.num_tokens()));
          EXPECT_EQ(kv.global().size(), global.PagesFor(kv.num_tokens()));
          ASSERT_TRUE(blocks.Check({&kv}).ok()) << blocks.Check({&kv});
        }
      }
    }
  }
}

TEST(BlockManager, FullPagesOfTheWindowKeepTheirPlace) {
  BlockManager blocks(Class(8, 0), 100, Class(4, 16), 20);
  SequenceKv kv = *blocks.Admit(200);
  std::vector<int32_t> page_of(51, -1);  // physical page of each logical one, as first seen
  while (kv.num_tokens() < 200) {
    kv.BeginAppend(kv.MaxAppend(3));
    for (int32_t p = kv.window().first_page(); p < kv.window().end_page(); ++p) {
      const int32_t physical = kv.window().pages()[static_cast<size_t>(p - kv.window().first_page())];
      if (page_of[static_cast<size_t>(p)] < 0) page_of[static_cast<size_t>(p)] = physical;
      ASSERT_EQ(page_of[static_cast<size_t>(p)], physical) << "logical page " << p << " moved";
    }
    kv.EndAppend();
  }
}

TEST(BlockManager, AdmitsWhileTheWholeLifeFitsAndNotBeyond) {
  BlockManager blocks(Class(8, 0), 10, Class(4, 16), 100);
  std::optional<SequenceKv> a = blocks.Admit(40), b = blocks.Admit(33);
  ASSERT_TRUE(a && b);  // 5 + 5 pages, none of them held yet
  EXPECT_FALSE(blocks.Admit(1));
  EXPECT_EQ(a->MaxAppend(1000), 40) << "its own five pages, not the other's";
  b.reset();
  EXPECT_TRUE(blocks.Admit(33));
  EXPECT_TRUE(blocks.CanEverFit(80).ok());
  const absl::Status never = blocks.CanEverFit(81);
  EXPECT_EQ(never.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(never.message().find("11 global"), std::string_view::npos) << never;
  EXPECT_NE(never.message().find("has 10"), std::string_view::npos) << never;
}

TEST(BlockManager, WindowPagesBoundAdmissionToo) {
  // A window of 16 in pages of 4 needs up to 5 pages.
  BlockManager blocks(Class(8, 0), 1000, Class(4, 16), 11);
  std::optional<SequenceKv> a = blocks.Admit(100), b = blocks.Admit(100);
  ASSERT_TRUE(a && b);
  EXPECT_FALSE(blocks.Admit(100));
  EXPECT_TRUE(blocks.Admit(4)) << "a short sequence needs one page";
  // A prefill borrows the free page; the other's five stay promised.
  EXPECT_EQ(a->MaxAppend(100), 24);
  a->BeginAppend(24);
  EXPECT_EQ(b->MaxAppend(100), 20);
  b->BeginAppend(20);
  EXPECT_TRUE(blocks.Check({&*a, &*b}).ok());
}

TEST(BlockManager, AModelWithoutOneClassNeedsNoPagesOfIt) {
  BlockManager only_global(Class(8, 0), 4, KvClassLayout{}, 0), only_window(KvClassLayout{}, 0, Class(4, 16), 6);
  for (BlockManager* blocks : {&only_global, &only_window}) {
    std::optional<SequenceKv> kv = blocks->Admit(30);
    ASSERT_TRUE(kv);
    while (kv->num_tokens() < 30) {
      const int32_t count = kv->MaxAppend(30 - kv->num_tokens());
      ASSERT_GT(count, 0);
      kv->BeginAppend(count);
      kv->EndAppend();
    }
    EXPECT_TRUE(blocks->Check({&*kv}).ok());
  }
}

TEST(SequenceKv, TruncateCutsBackWhileTheWindowIsHeld) {
  const KvClassLayout global = Class(8, 0), window = Class(4, 16);
  BlockManager blocks(global, 100, window, 100);
  SequenceKv kv = *blocks.Admit(400);
  const auto append = [&](int32_t count) {
    kv.BeginAppend(count);
    kv.EndAppend();
  };
  append(100);  // the window's first held token is 84: cutting to 99 reads from 84 on
  EXPECT_TRUE(kv.Truncate(0).ok());
  EXPECT_TRUE(kv.Truncate(1).ok());
  EXPECT_EQ(kv.num_tokens(), 99);
  const absl::Status gone = kv.Truncate(1);  // 98 would read token 83
  EXPECT_EQ(gone.code(), absl::StatusCode::kFailedPrecondition) << gone;
  EXPECT_EQ(kv.num_tokens(), 99);
  append(40);
  EXPECT_TRUE(blocks.Check({&kv}).ok());
  EXPECT_EQ(kv.Truncate(140).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(kv.Truncate(-1).code(), absl::StatusCode::kInvalidArgument);

  SequenceKv young = *blocks.Admit(400);
  young.BeginAppend(12);  // less than a window: can go back to nothing
  young.EndAppend();
  EXPECT_TRUE(young.Truncate(7).ok());
  EXPECT_EQ(young.global().size(), 1);
  EXPECT_EQ(young.window().size(), 2);
  EXPECT_TRUE(young.Truncate(5).ok());
  EXPECT_EQ(young.global().size() + young.window().size(), 0);
  EXPECT_TRUE(blocks.Check({&kv, &young}).ok());
}

TEST(BlockManager, ConservationUnderRandomOperations) {
  for (uint32_t seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    BlockManager blocks(Class(8, 0), 60, Class(4, 16), 30);
    struct Live {
      SequenceKv kv;
      int32_t most;
    };
    std::deque<Live> live;
    int admitted = 0, refused = 0, cut = 0, gone = 0;
    for (int op = 0; op < 20000; ++op) {
      const uint32_t what = rng() % 10;
      if (what < 2) {
        const int32_t most = 1 + static_cast<int32_t>(rng() % 150);
        if (std::optional<SequenceKv> kv = blocks.Admit(most)) {
          live.push_back({*std::move(kv), most});
          ++admitted;
        } else {
          ++refused;
        }
      } else if (!live.empty()) {
        const size_t pick = rng() % live.size();
        Live& one = live[pick];
        if (what == 2) {
          (one.kv.Truncate(static_cast<int32_t>(rng() % 20)).ok() ? cut : gone) += 1;
        } else if (one.kv.num_tokens() == one.most) {
          std::deque<Live> rest;
          for (size_t i = 0; i < live.size(); ++i) {
            if (i != pick) rest.push_back(std::move(live[i]));
          }
          live.swap(rest);
        } else {
          const int32_t wanted = std::min(one.most - one.kv.num_tokens(), 1 + static_cast<int32_t>(rng() % 40));
          const int32_t count = one.kv.MaxAppend(wanted);
          ASSERT_GE(count, 1) << "an admitted sequence can always go on";
          one.kv.BeginAppend(count);
          one.kv.EndAppend();
        }
      }
      std::vector<const SequenceKv*> holders;
      for (const Live& one : live) holders.push_back(&one.kv);
      ASSERT_TRUE(blocks.Check(holders).ok()) << "operation " << op << ": " << blocks.Check(holders);
    }
    EXPECT_GT(admitted, 100);
    EXPECT_GT(refused, 100);
    EXPECT_GT(cut, 100);
    EXPECT_GT(gone, 10);
  }
}

}  // namespace
}  // namespace hysparse
