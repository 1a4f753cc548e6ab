#include "server/cli/arena.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hysparse {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kGlobalPage = 64 * 100, kWindowPage = 64 * 1000;

// Global: 2 layers, 100 bytes a token. Window: 128 tokens, 1,000 bytes a token.
KvLayout Layout(bool global, bool window) {
  KvLayout layout;
  layout.global.page_tokens = layout.window.page_tokens = 64;
  if (global) {
    layout.global.layers = 2;
    layout.global.token_bytes = 100;
  }
  if (window) {
    layout.window.layers = 4;
    layout.window.window = 128;
    layout.window.token_bytes = 1000;
  }
  return layout;
}

ArenaRequest Request(int64_t memory, int32_t length = 0, int32_t sequences = 4) {
  return {.memory = memory,
          .max_num_seqs = sequences,
          .max_num_batched_tokens = 256,
          .max_model_len = length,
          .model_limit = 1024};
}

int64_t Bytes(const Arena& arena) { return arena.global_pages * kGlobalPage + arena.window_pages * kWindowPage; }

TEST(Arena, TakesNoMoreThanTheSequencesCanUse) {
  const auto arena = DivideArena(Layout(true, true), Request(int64_t{1} << 40));
  ASSERT_TRUE(arena.ok());
  EXPECT_EQ(arena->max_model_len, 1024);
  EXPECT_EQ(arena->global_pages, 4 * 16);
  EXPECT_EQ(arena->window_pages, 4 * 3 + 4);  // a window of 128 touches 3 pages; a chunk of 256 needs 4 more
}

TEST(Arena, NeverTakesMoreThanItIsGivenAndAlwaysFitsOneSequence) {
  for (const auto& [global, window] : {std::pair{true, true}, {true, false}, {false, true}}) {
    const KvLayout layout = Layout(global, window);
    for (int64_t memory = 210'000; memory < 3'000'000; memory += 7'919) {
      const auto arena = DivideArena(layout, Request(memory));
      ASSERT_TRUE(arena.ok()) << memory << arena.status();
      EXPECT_LE(Bytes(*arena), memory);
      EXPECT_GE(arena->global_pages, layout.global.MaxPages(arena->max_model_len, 1)) << memory;
      EXPECT_GE(arena->window_pages, layout.window.MaxPages(arena->max_model_len, 1)) << memory;
      EXPECT_EQ(arena->global_pages == 0, !global);
      EXPECT_EQ(arena->window_pages == 0, !window);
    }
  }
}

TEST(Arena, ShortensTheContextWhenNoneIsAskedFor) {
  const auto arena = DivideArena(Layout(true, false), Request(5 * kGlobalPage));
  ASSERT_TRUE(arena.ok());
  EXPECT_EQ(arena->max_model_len, 320);
  EXPECT_EQ(DivideArena(Layout(true, false), Request(100 * kGlobalPage))->max_model_len, 1024);
}

TEST(Arena, RefusesALengthThatDoesNotFitWithTheNumbers) {
  const std::string message(DivideArena(Layout(true, false), Request(5 * kGlobalPage, 1000)).status().message());
  EXPECT_THAT(message, HasSubstr("--max-model-len 1000 needs 100.0 KiB"));
  EXPECT_THAT(message, HasSubstr("at most 320 tokens fit"));
  EXPECT_THAT(DivideArena(Layout(true, false), Request(1 << 30, 1025)).status().message(),
              HasSubstr("beyond the model's 1024 tokens"));
  EXPECT_THAT(DivideArena(Layout(true, true), Request(0)).status().message(), HasSubstr("no memory is left"));
}

TEST(Arena, ScarceMemoryGivesWindowsHalfAtMostAndTheRestToTheContext) {
  const KvLayout layout = Layout(true, true);
  const int64_t memory = 16 * kGlobalPage + 8 * kWindowPage;
  const auto arena = DivideArena(layout, Request(memory, 1024, 64));
  ASSERT_TRUE(arena.ok());
  EXPECT_GE(arena->global_pages, 16);
  EXPECT_GE(arena->window_pages, 3);
  EXPECT_LE(Bytes(*arena), memory);
}

}  // namespace
}  // namespace hysparse
