#include "server/cli/arena.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hysparse {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kGlobalPage = 64 * 100;

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

ArenaRequest Request(int64_t memory, int32_t length = 0) {
  return {.memory = memory, .host_memory = 0, .max_model_len = length, .model_limit = 1024};
}

TEST(Arenas, NeverTakeMoreThanTheyAreGivenAndAlwaysFitOneSequence) {
  for (const auto& [global, window] : {std::pair{true, true}, {true, false}, {false, true}}) {
    const KvLayout layout = Layout(global, window);
    for (int64_t memory = 300'000; memory < 3'000'000; memory += 7'919) {
      const auto arenas = MakeArenas(layout, Request(memory));
      ASSERT_TRUE(arenas.ok()) << memory << arenas.status();
      EXPECT_LE(arenas->device.bytes(), memory);
      EXPECT_EQ(arenas->host.slabs, 0);
      const int32_t longest = arenas->max_model_len;
      EXPECT_TRUE(EmptyRoom(arenas->device).CanProvide(NeedOf(layout, longest)));
      EXPECT_EQ(EmptyRoom(arenas->device).CanProvide(NeedOf(layout, longest + 1)) && longest < 1024, false);
      EXPECT_EQ(arenas->device.page_ids(KvClass::kGlobal) == 0, !global);
      EXPECT_EQ(arenas->device.page_ids(KvClass::kWindow) == 0, !window);
    }
  }
}

TEST(Arenas, TheHostsHasTheSamePages) {
  ArenaRequest request = Request(1 << 24);
  request.host_memory = 1 << 20;
  const auto arenas = MakeArenas(Layout(true, true), request);
  ASSERT_TRUE(arenas.ok());
  EXPECT_GT(arenas->host.slabs, 0);
  EXPECT_LE(arenas->host.bytes(), 1 << 20);
  EXPECT_EQ(arenas->host.global.page_bytes, arenas->device.global.page_bytes);
  request.host_memory = 1000;
  EXPECT_THAT(MakeArenas(Layout(true, true), request).status().message(), HasSubstr("--kv-host-memory 1000 B"));
}

TEST(Arenas, ShortensTheContextWhenNoneIsAskedFor) {
  const auto arena = MakeArenas(Layout(true, false), Request(5 * kGlobalPage));
  ASSERT_TRUE(arena.ok());
  EXPECT_EQ(arena->max_model_len, 320);
  EXPECT_EQ(MakeArenas(Layout(true, false), Request(100 * kGlobalPage))->max_model_len, 1024);
}

TEST(Arenas, RefusesALengthThatDoesNotFitWithTheNumbers) {
  const std::string message(MakeArenas(Layout(true, false), Request(5 * kGlobalPage, 1000)).status().message());
  EXPECT_THAT(message, HasSubstr("--max-model-len 1000 needs 100.0 KiB"));
  EXPECT_THAT(message, HasSubstr("at most 320 tokens fit"));
  EXPECT_THAT(MakeArenas(Layout(true, false), Request(1 << 30, 1025)).status().message(),
              HasSubstr("beyond the model's 1024 tokens"));
  EXPECT_THAT(MakeArenas(Layout(true, true), Request(0)).status().message(), HasSubstr("no memory is left"));
}

}  // namespace
}  // namespace hysparse
