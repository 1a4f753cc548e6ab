// Sequences' pages: promises, sliding windows, prefixes, slabs handed between classes, spilling and return.
#include "engine/kv/block_manager.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "engine/kv/sequence_kv.h"
#include "tests/unit/engine/test_engine.h"

namespace hysparse {
namespace {

KvClassLayout Class(int32_t page_tokens, int32_t window) { return {1, page_tokens, window, 4}; }

class BlockManagerTest : public testing::Test {
 protected:
  // Global pages of 8 tokens, window pages of 4 in a window of 16.
  BlockManagerTest() { Make({96, 20, {3, 32, 32}, {6, 16, 16}}); }

  void Make(const ArenaLayout& device, const ArenaLayout& host = {}, int32_t window_page = 4, int32_t window = 16) {
    kvs_.clear();
    KvLayout layout;
    layout.global = Class(8, 0);
    layout.window = Class(window_page, window);
    if (device.window.pages_per_slab == 0) layout.window = {};
    if (device.global.pages_per_slab == 0) layout.global = {};
    blocks_ = std::make_unique<BlockManager>(BlockManagerOptions{layout, device, host, window - 1, 3});
    blocks_->BeginPlan(++step_);
  }

  KvRequest Request(const std::vector<int32_t>& tokens, int64_t promise, const char* salt = "") {
    KvRequest request;
    request.salt = blocks_->hash().Salt(salt);
    hashes_ = blocks_->hash().Pages(request.salt, tokens);
    request.tokens = tokens;
    request.hashes = hashes_;
    request.cached = true;
    request.prompt_tokens = static_cast<int32_t>(tokens.size());
    request.promise = promise;
    return request;
  }
  // Null when refused.
  SequenceKv* Admit(int64_t promise, const std::vector<int32_t>& tokens = {}, const char* salt = "") {
    KvRequest request = Request(tokens, promise, salt);
    request.cached = !tokens.empty();
    PageNeed need;
    kvs_.push_back(blocks_->Admit(request, &need));
    return kvs_.back().get();
  }
  void Drop(SequenceKv* kv) {
    std::erase_if(kvs_, [&](const auto& each) { return each.get() == kv; });
  }
  void Append(SequenceKv& kv, int32_t count) {
    ASSERT_EQ(kv.MaxAppend(count), count);
    ASSERT_TRUE(kv.BeginAppend(count));
    kv.EndAppend();
  }
  // A sequence with these tokens runs and leaves its pages in the cache.
  void Leave(const std::vector<int32_t>& tokens, const char* salt = "") {
    SequenceKv* kv = Admit(static_cast<int64_t>(tokens.size()), tokens, salt);
    ASSERT_NE(kv, nullptr);
    Append(*kv, static_cast<int32_t>(tokens.size()) - kv->num_tokens());
    blocks_->Retire(*kv, kv->num_tokens(), [&](int32_t at) { return tokens[static_cast<size_t>(at)]; });
    Drop(kv);
    NextPlan();
  }
  StepPlan NextPlan() {
    StepPlan plan;
    plan.chunks.resize(1);
    blocks_->TakeCopies(plan);
    blocks_->CompleteStep(step_);
    blocks_->BeginPlan(++step_);
    return plan;
  }
  void ExpectConserved() {
    const absl::Status status = blocks_->Check();
    EXPECT_TRUE(status.ok()) << status;
  }

  std::unique_ptr<BlockManager> blocks_;
  std::vector<std::unique_ptr<SequenceKv>> kvs_;
  std::vector<uint64_t> hashes_;
  uint64_t step_ = 0;
};

TEST_F(BlockManagerTest, AWindowNeverHoldsMoreThanItsTokensAndOneStepRoundedToPages) {
  for (const int32_t page : {1, 4, 8, 16}) {
    for (const int32_t window : {16, 17, 30}) {
      for (const int32_t step : {1, 7, 40}) {
        Make({64, 200, {1, 64, 64}, {1, 64, 64}}, {}, page, window);
        const KvLayout& layout = blocks_->layout();
        SequenceKv& kv = *Admit(500);
        while (kv.num_tokens() < 500) {
          const int32_t count = std::min(step, 500 - kv.num_tokens()), n = kv.num_tokens();
          ASSERT_EQ(kv.MaxAppend(count), count);
          ASSERT_TRUE(kv.BeginAppend(count));
          // Every token that the step reads or writes has a page, and no more pages than the layout's bound.
          EXPECT_LE(kv.window().first_page() * page, std::max(0, n - window + 1));
          EXPECT_GE(kv.window().end_page() * page, n + count);
          EXPECT_LE(kv.window().size(), layout.window.MaxPages(500, count));
          kv.EndAppend();
          EXPECT_EQ(kv.window().size(), layout.window.PagesFor(kv.num_tokens()));
          EXPECT_EQ(kv.global().size(), layout.global.PagesFor(kv.num_tokens()));
        }
        ExpectConserved();
      }
    }
  }
}

TEST_F(BlockManagerTest, FullPagesOfTheWindowKeepTheirPlace) {
  SequenceKv& kv = *Admit(200);
  std::vector<int32_t> page_of(51, -1);  // physical page of each logical one, as first seen
  while (kv.num_tokens() < 150) {
    Append(kv, 3);
    for (int32_t p = kv.window().first_page(); p < kv.window().end_page(); ++p) {
      int32_t& seen = page_of[static_cast<size_t>(p)];
      if (seen < 0) seen = kv.window().page(p);
      ASSERT_EQ(seen, kv.window().page(p)) << "logical page " << p << " moved";
    }
  }
}

TEST_F(BlockManagerTest, PromisesBoundAdmissionInSlabsOfBothClasses) {
  Make({96, 6, {3, 32, 32}, {6, 16, 16}});
  SequenceKv *a = Admit(40), *b = Admit(40);  // 5 global and 5 window pages each: 4 slabs and 2
  ASSERT_TRUE(a != nullptr && b != nullptr);
  EXPECT_EQ(blocks_->promised(KvClass::kGlobal), 10);
  EXPECT_EQ(Admit(24), nullptr);
  EXPECT_EQ(a->MaxAppend(1000), 28) << "its five window pages and the two that the slabs leave over";
  Drop(b);
  EXPECT_NE(Admit(40), nullptr);
  ExpectConserved();
}

TEST_F(BlockManagerTest, WhatCanNeverFitIsRefusedWithTheNumbers) {
  Make({96, 6, {3, 32, 32}, {6, 16, 16}});
  EXPECT_TRUE(blocks_->CanEverFit(120).ok());
  const absl::Status never = blocks_->CanEverFit(121);
  EXPECT_EQ(never.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(never.message().find("16 global and 5 window"), std::string_view::npos) << never;
  EXPECT_NE(never.message().find("the KV cache has 576"), std::string_view::npos) << never;
  EXPECT_FALSE(blocks_->CanEverFit(int64_t{1} << 50).ok());
}

TEST_F(BlockManagerTest, AModelWithoutOneClassNeedsNoPagesOfIt) {
  for (const ArenaLayout& arena : {ArenaLayout{32, 4, {1, 32, 32}, {}}, ArenaLayout{16, 6, {}, {1, 16, 16}}}) {
    Make(arena);
    SequenceKv& kv = *Admit(30);
    while (kv.num_tokens() < 30) Append(kv, std::max(1, std::min(6, kv.MaxAppend(30 - kv.num_tokens()))));
    ExpectConserved();
  }
}

TEST_F(BlockManagerTest, TruncateCutsBackWhileTheWindowIsHeld) {
  SequenceKv& kv = *Admit(200);
  Append(kv, 100);  // the window's first held token is 84: cutting to 99 reads from 84 on
  EXPECT_TRUE(kv.Truncate(0).ok());
  EXPECT_TRUE(kv.Truncate(1).ok());
  EXPECT_EQ(kv.num_tokens(), 99);
  EXPECT_EQ(kv.Truncate(1).code(), absl::StatusCode::kFailedPrecondition) << "98 would read token 83";
  Append(kv, 40);
  EXPECT_EQ(kv.Truncate(140).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(kv.Truncate(-1).code(), absl::StatusCode::kInvalidArgument);
  SequenceKv& young = *Admit(40);
  Append(young, 12);  // less than a window: can go back to nothing
  EXPECT_TRUE(young.Truncate(12).ok());
  EXPECT_EQ(young.global().size() + young.window().size(), 0);
  ExpectConserved();
}

TEST_F(BlockManagerTest, APrefixIsContinuedFromASnapshotOrByARebuildAndNeverUnderAnotherSalt) {
  const std::vector<int32_t> prompt = TestPrompt(60);
  Leave(prompt);
  std::vector<int32_t> longer = TestPrompt(70);
  SequenceKv* kv = Admit(70, longer);  // the turn's end at 56 has a snapshot
  EXPECT_EQ(kv->cached_tokens(), 56);
  EXPECT_EQ(kv->num_tokens(), 56);
  EXPECT_EQ(kv->write_from(), 0);
  EXPECT_EQ(kv->window().first_page(), 10) << "tokens 41 to 55";
  EXPECT_EQ(NextPlan().moves.size(), 4u) << "the snapshot's pages are copied";
  longer[45] = 100;  // shares five pages: no snapshot there
  SequenceKv* rebuilt = Admit(70, longer);
  EXPECT_EQ(rebuilt->cached_tokens(), 40);
  EXPECT_EQ(rebuilt->num_tokens(), 25) << "a window of 16 in one layer takes 15";
  EXPECT_EQ(rebuilt->write_from(), 40);
  EXPECT_EQ(rebuilt->window_from(), 25);
  SequenceKv* other = Admit(70, TestPrompt(70), "another tenant");
  EXPECT_EQ(other->cached_tokens(), 0);
  EXPECT_EQ(blocks_->prefix_stats().hit_tokens, 96);
  EXPECT_EQ(blocks_->prefix_stats().rebuilt_tokens, 15);
  EXPECT_EQ(blocks_->prefix_stats().cold_misses, 4);
  ExpectConserved();
}

TEST_F(BlockManagerTest, SharersOfASnapshotEachHaveTheirPromisedPages) {
  Make({96, 8, {3, 32, 32}, {6, 16, 16}});
  Leave(TestPrompt(32));
  SequenceKv *a = Admit(48, TestPrompt(40)), *b = Admit(48, TestPrompt(40));
  ASSERT_TRUE(a != nullptr && b != nullptr);
  for (SequenceKv* kv : {a, b}) {
    while (kv->num_tokens() < 48) Append(*kv, 1);
  }
  ExpectConserved();
}

TEST_F(BlockManagerTest, TheSecondToComputeAPageTakesTheFirstOnes) {
  const std::vector<int32_t> prompt = TestPrompt(20);
  const auto token = [&](int32_t at) { return prompt[static_cast<size_t>(at)]; };
  SequenceKv *a = Admit(20, prompt), *b = Admit(20, prompt);
  for (SequenceKv* kv : {a, b}) Append(*kv, 20);
  b->set_slot(3), b->MarkSent();
  blocks_->Commit(*a, 20, token);
  blocks_->Commit(*b, 20, token);
  EXPECT_EQ(a->global().page(0), b->global().page(0));
  EXPECT_EQ(a->global().page(1), b->global().page(1));
  EXPECT_NE(a->global().page(2), b->global().page(2)) << "not a whole page";
  const StepPlan plan = NextPlan();
  ASSERT_EQ(plan.updates.size(), 2u);
  EXPECT_EQ(plan.updates[1].slot, 3);
  EXPECT_EQ(plan.updates[1].page, a->global().page(1));
  ExpectConserved();
}

TEST_F(BlockManagerTest, EvictionTakesTheLeastRecentlyUsedAndLeavesFirst) {
  Make({32, 10, {1, 32, 32}, {}});
  Leave(TestPrompt(32, 1));  // four pages
  Leave(TestPrompt(32, 2));
  Leave(TestPrompt(33, 1));  // the first one is used again: four hits
  SequenceKv* filler = Admit(40);
  Append(*filler, 40);  // two pages were free, three of the second chain go
  SequenceKv* second = Admit(1, TestPrompt(32, 2));
  EXPECT_EQ(second == nullptr ? -1 : second->cached_tokens(), 8) << "its first page is left";
  EXPECT_EQ(blocks_->prefix_stats().evicted_misses, 1);
  ExpectConserved();
}

TEST_F(BlockManagerTest, PagesSpilledTogetherLeaveTheCacheBeforeTheirParents) {
  Make({32, 10, {1, 32, 32}, {}}, {32, 10, {1, 32, 32}, {}});
  std::vector<int32_t> prompts[] = {TestPrompt(24), TestPrompt(24)};
  prompts[1][20] = 100;  // two pages are the same
  for (const std::vector<int32_t>& prompt : prompts) {
    SequenceKv* kv = Admit(24, prompt);
    Append(*kv, 24 - kv->num_tokens());
    blocks_->Commit(*kv, 24, [&](int32_t at) { return prompt[static_cast<size_t>(at)]; });
  }
  for (const auto& kv : kvs_) {  // in two steps that are under way together
    ASSERT_TRUE(blocks_->Spill(*kv));
    StepPlan plan;
    blocks_->TakeCopies(plan);
    blocks_->BeginPlan(++step_);
  }
  for (const uint64_t done : {step_ - 2, step_ - 1}) {
    blocks_->CompleteStep(done);
    ExpectConserved();
  }
  EXPECT_EQ(blocks_->arena().counts(KvClass::kGlobal).cached, 4);
  SequenceKv* filler = Admit(80);
  for (int pages = 0; pages < 10; ++pages) {
    Append(*filler, 8);
    ExpectConserved();
  }
}

TEST_F(BlockManagerTest, CachedPagesAreFoundWhereTheyWereMoved) {
  Make({64, 8, {16, 4, 4}, {2, 32, 32}});
  SequenceKv* filler = Admit(120);
  while (filler->num_tokens() < 120) Append(*filler, 4);
  Leave(TestPrompt(24));  // its first page is the last of a slab
  Drop(filler);
  SequenceKv* owner = Admit(1, TestPrompt(24));  // so that it cannot be evicted, only moved
  ASSERT_EQ(owner->global().size(), 2);
  const std::vector<int32_t> before(owner->global().pages().begin(), owner->global().pages().end());
  NextPlan();
  for (bool moved = false; !moved;) {  // windows ask for slabs until one of the two global ones is emptied
    SequenceKv* kv = Admit(1);
    ASSERT_NE(kv, nullptr);
    Append(*kv, 1);
    ExpectConserved();
    for (const PageCopy& move : NextPlan().moves) moved |= move.kv_class == KvClass::kGlobal;
  }
  const std::span<const int32_t> after = owner->global().pages();
  EXPECT_NE(before, std::vector<int32_t>(after.begin(), after.end()));
  kvs_.resize(1);
  SequenceKv* again = Admit(1, TestPrompt(24));
  ASSERT_NE(again, nullptr);
  EXPECT_TRUE(std::ranges::equal(again->global().pages(), after));
}

TEST_F(BlockManagerTest, ASlabIsEmptiedForTheOtherClassByMovingPages) {
  Make({384, 4, {8, 48, 48}, {12, 32, 32}});
  for (int32_t i = 0; i < 16; ++i) {
    SequenceKv* kv = Admit(1);
    ASSERT_NE(kv, nullptr);
    Append(*kv, 1);
    kv->set_slot(i), kv->MarkSent();
  }
  SequenceKv *first = kvs_.front().get(), *last = kvs_.back().get();  // two slabs of each class, all in use
  while (kvs_.size() > 2) Drop(kvs_[1].get());
  const int32_t before[2] = {first->window().page(0), last->window().page(0)};
  SequenceKv* large = Admit(128);  // 16 global pages; 14 are free
  ASSERT_NE(large, nullptr);
  while (large->num_tokens() < 128) Append(*large, 4);
  ExpectConserved();
  const StepPlan plan = NextPlan();
  ASSERT_EQ(plan.moves.size(), 1u);
  EXPECT_EQ(plan.moves[0].kv_class, KvClass::kWindow);
  const bool is_first = plan.moves[0].from == before[0];
  EXPECT_EQ(plan.moves[0].from, before[is_first ? 0 : 1]);
  EXPECT_EQ((is_first ? first : last)->window().page(0), plan.moves[0].to);
  EXPECT_EQ((is_first ? last : first)->window().page(0), before[is_first ? 1 : 0]);
}

TEST_F(BlockManagerTest, SpilledPagesComeBackWhereTheyAreTold) {
  Make({96, 8, {3, 32, 32}, {6, 16, 16}}, {96, 4, {3, 32, 32}, {6, 16, 16}});
  SequenceKv* kv = Admit(30);
  Append(*kv, 30);
  const std::vector<int32_t> global(kv->global().pages().begin(), kv->global().pages().end());
  ASSERT_TRUE(blocks_->Spill(*kv));
  EXPECT_TRUE(kv->spilled());
  EXPECT_EQ(kv->global().size() + kv->window().size(), 0);
  EXPECT_EQ(blocks_->arena().counts(KvClass::kGlobal).spilling, 4);
  ExpectConserved();
  const StepPlan out = NextPlan();  // done: the pages are free
  ASSERT_EQ(out.spills.size(), 9u);
  EXPECT_EQ(out.spills[0].from, global[0]);
  EXPECT_EQ(blocks_->arena().unassigned_slabs(), 8);
  const std::vector<int32_t> tokens(31, 1);
  ASSERT_TRUE(blocks_->Return(*kv, {.tokens = tokens, .hashes = {}, .salt = {}, .promise = 31}));
  EXPECT_EQ(kv->window().first_page(), 3) << "tokens 14 to 29";
  ExpectConserved();
  const StepPlan back = NextPlan();
  ASSERT_EQ(back.returns.size(), 9u);
  EXPECT_EQ(back.returns[0].from, out.spills[0].to);
  EXPECT_EQ(back.returns[0].to, kv->global().page(0));
  EXPECT_EQ(blocks_->host().unassigned_slabs(), 4);
  Append(*kv, 1);
  ExpectConserved();
}

TEST_F(BlockManagerTest, AHostArenaThatIsFullChangesNothing) {
  Make({96, 8, {3, 32, 32}, {6, 16, 16}}, {96, 2, {3, 32, 32}, {6, 16, 16}});
  SequenceKv* kv = Admit(30);  // 4 + 5 pages: three slabs
  Append(*kv, 30);
  EXPECT_FALSE(blocks_->Spill(*kv));
  EXPECT_FALSE(kv->spilled());
  EXPECT_EQ(kv->global().size(), 4);
  EXPECT_TRUE(NextPlan().spills.empty());
  EXPECT_EQ(blocks_->host().unassigned_slabs(), 2);
  ExpectConserved();
}

TEST_F(BlockManagerTest, AReturnTakesWhatTheCacheStillHas) {
  Make({96, 8, {3, 32, 32}, {6, 16, 16}}, {96, 8, {3, 32, 32}, {6, 16, 16}});
  const std::vector<int32_t> prompt = TestPrompt(31);
  SequenceKv* kv = Admit(31, prompt);
  Append(*kv, 30);
  blocks_->Commit(*kv, 30, [&](int32_t at) { return prompt[static_cast<size_t>(at)]; });
  ASSERT_TRUE(blocks_->Spill(*kv));
  NextPlan();
  EXPECT_EQ(blocks_->arena().counts(KvClass::kGlobal).cached, 3);
  ASSERT_TRUE(blocks_->Return(*kv, Request(prompt, 31)));
  const StepPlan back = NextPlan();
  EXPECT_EQ(std::count_if(back.returns.begin(), back.returns.end(),
                          [](const PageCopy& copy) { return copy.kv_class == KvClass::kGlobal; }),
            1)
      << "the page that was not whole";
  ExpectConserved();
}

}  // namespace
}  // namespace hysparse
