// The engine under random load: cancellation in every state, several client threads, a cache that is always full.
// Every step of these engines checks that each page is free or owned exactly once.
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "tests/unit/engine/test_engine.h"

namespace hysparse {
namespace {

GenerateRequest StressRequest(std::mt19937& rng, std::string id) {
  GenerateRequest request = TestRequest(std::move(id), 1 + static_cast<int32_t>(rng() % 120),
                                        static_cast<int32_t>(rng() % 40), static_cast<int32_t>(rng() % 6));
  request.n = 1 + static_cast<int32_t>(rng() % 3);
  request.prompt_logprobs = rng() % 4 == 0;
  request.logprobs = rng() % 4 == 0;
  request.sampling.temperature = static_cast<float>(rng() % 2);
  request.sampling.seed = rng();
  request.sampling.repetition_penalty = rng() % 4 == 0 ? 1.5f : 1.0f;
  request.min_tokens = request.max_tokens / 4;
  return request;
}

TEST(EngineStress, TenThousandRandomCancelsLeaveNoPageAndDisturbNobody) {
  EngineOptions options = TestOptions(60, 26);  // about four requests: the queue is never empty
  options.max_waiting = 40;
  options.output_reserve = 0;
  options.host_arena = TestArena(8, 4);  // full now and then: some are spilled, some computed again
  TestEngine t(options);
  t.model->stop_every = 60;
  std::mt19937 rng(11);
  struct Open {
    GenerateRequest request;
    std::shared_ptr<CollectSink> sink;
  };
  std::vector<Open> open;
  int cancels = 0, refused = 0, complete = 0, cut = 0;
  const auto settle = [&](size_t i) {
    const Open& one = open[i];
    const auto& choices = one.sink->Wait();
    for (size_t c = 0; c < choices.size(); ++c) {
      ASSERT_FALSE(choices[c].after_finish);
      ASSERT_NE(choices[c].finish, FinishReason::kError) << choices[c].error;
      const auto expected = ExpectedTokens(one.request, one.request.max_tokens, static_cast<int32_t>(c), 60);
      if (choices[c].finish == FinishReason::kCancelled) {
        ++cut;
        ASSERT_LE(choices[c].tokens.size(), expected.size());
      } else {
        ++complete;
        ASSERT_EQ(choices[c].tokens.size(), expected.size());
      }
      ASSERT_TRUE(std::equal(choices[c].tokens.begin(), choices[c].tokens.end(), expected.begin()));
    }
    open.erase(open.begin() + static_cast<int64_t>(i));
  };
  t.engine.Start();
  // On until the engine, which may get less of the processor than this thread, has met everything.
  const auto met_all = [&] {
    const EngineStats stats = t.engine.Stats();
    return complete > 100 && cut > 100 && stats.spills > 0 && stats.recomputes > 0 && stats.prefix.rebuilt_tokens > 0;
  };
  for (int i = 0; cancels < 10000 || (cancels < 1000000 && !met_all()); ++i) {
    GenerateRequest request = StressRequest(rng, std::to_string(i));
    request.min_tokens = 0;
    auto sink = std::make_shared<CollectSink>(request.n);
    const absl::Status status = t.engine.Submit(request, sink);
    if (status.ok()) {
      open.push_back({request, sink});
    } else {
      ASSERT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
      ++refused;
    }
    // Old requests run, young ones wait: a random pick meets every state.
    for (int k = 0; k < 2 && !open.empty(); ++k) {
      const Open& one = open[rng() % open.size()];
      t.engine.Cancel(one.request.id, rng() % 2 ? -1 : static_cast<int32_t>(rng() % 3));
      ++cancels;
    }
    while (!open.empty() && open.front().sink->Done()) ASSERT_NO_FATAL_FAILURE(settle(0));
    if (rng() % 8 == 0) std::this_thread::yield();
  }
  while (!open.empty()) ASSERT_NO_FATAL_FAILURE(settle(0));
  const EngineStats stats = t.StatsWhenIdle();
  EXPECT_EQ(stats.global.used() + stats.window.used() + stats.kv_tokens, 0);
  EXPECT_GT(stats.spills, 0);
  EXPECT_GT(stats.recomputes, 0);
  EXPECT_GT(stats.prefix.hit_tokens, 0);
  EXPECT_GT(stats.prefix.rebuilt_tokens, 0);
  EXPECT_GT(complete, 100);
  EXPECT_GT(cut, 100);
  RecordProperty("refused", refused);
}

TEST(EngineStress, ManyThreadsSubmitCancelAndWatch) {
  EngineOptions options = TestOptions(80, 40);
  options.max_waiting = 30;
  options.output_reserve = 0;
  options.host_arena = TestArena(30, 30);
  TestEngine t(options);
  t.model->stop_every = 40;
  t.engine.Start();
  constexpr int kThreads = 4, kRequests = 300;
  std::atomic<int> finished = 0, refused = 0;
  std::atomic<bool> watching = true;
  std::thread watcher([&] {
    int64_t last = 0;
    while (watching) {
      const EngineStats stats = t.engine.Stats();
      EXPECT_GE(stats.steps, last);
      // Each by itself: figures of one reading may be a step apart (stats_board.h).
      EXPECT_LE(stats.global.used(), stats.kv_total);
      EXPECT_LE(stats.window.used(), stats.kv_total);
      EXPECT_LE(stats.waiting, 30);
      last = stats.steps;
      std::this_thread::yield();
    }
  });
  std::vector<std::thread> clients;
  for (int thread = 0; thread < kThreads; ++thread) {
    clients.emplace_back([&, thread] {
      std::mt19937 rng(static_cast<uint32_t>(thread));
      std::vector<std::shared_ptr<CollectSink>> sinks;
      for (int i = 0; i < kRequests; ++i) {
        const std::string id = std::to_string(thread) + "-" + std::to_string(i);
        GenerateRequest request = StressRequest(rng, id);
        auto sink = std::make_shared<CollectSink>(request.n);
        if (t.engine.Submit(request, sink).ok()) {
          sinks.push_back(sink);
        } else {
          ++refused;
        }
        // Its own, or another thread's, at whatever point that is.
        if (rng() % 3 == 0) {
          t.engine.Cancel(std::to_string(rng() % kThreads) + "-" + std::to_string(i - static_cast<int>(rng() % 4)));
        }
        if (rng() % 16 == 0) sinks.empty() ? void() : (void)sinks[rng() % sinks.size()]->Wait();
      }
      for (auto& sink : sinks) {
        for (const auto& choice : sink->Wait()) {
          EXPECT_NE(choice.finish, FinishReason::kError) << choice.error;
          EXPECT_FALSE(choice.after_finish);
        }
        ++finished;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  watching = false;
  watcher.join();
  EXPECT_EQ(finished + refused, kThreads * kRequests);
  const EngineStats stats = t.StatsWhenIdle();
  EXPECT_EQ(stats.global.used() + stats.window.used(), 0);
}

TEST(EngineStress, StopWhileClientsSubmitAnswersEveryAcceptedRequest) {
  for (int round = 0; round < 20; ++round) {
    TestEngine t;
    t.engine.Start();
    std::vector<std::thread> clients;
    std::atomic<int> accepted = 0;
    for (int thread = 0; thread < 3; ++thread) {
      clients.emplace_back([&, thread] {
        for (int i = 0;; ++i) {
          auto sink = std::make_shared<CollectSink>();
          const absl::Status status = t.engine.Submit(TestRequest(std::to_string(thread * 100000 + i), 5, 5), sink);
          if (status.code() == absl::StatusCode::kUnavailable) return;
          if (status.ok()) sink->Wait(), ++accepted;  // would hang if one were dropped
        }
      });
    }
    while (accepted < 5) std::this_thread::yield();
    t.engine.Stop();
    for (std::thread& client : clients) client.join();
  }
}

}  // namespace
}  // namespace hysparse
