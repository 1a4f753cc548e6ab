// The capacity quote of an engine: idle, busy, asked from many threads, and while it stops.
#include "engine/quote.h"

#include <gtest/gtest.h>

#include <atomic>
#include <limits>
#include <thread>
#include <vector>

#include "engine/base/clock.h"
#include "tests/unit/engine/test_engine.h"

namespace hysparse {
namespace {

TEST(QuoteTest, AnIdleEngineAdmits) {
  TestEngine test;
  test.engine.Start();
  const auto quote = test.Quote(100, 20);
  ASSERT_TRUE(quote.ok()) << quote.status();
  EXPECT_EQ(quote->verdict, Verdict::kAdmit);
  const KvBytes bytes = TestLayout().AllocatedBytes(119);
  EXPECT_EQ(quote->kv_bytes.global, bytes.global);
  EXPECT_EQ(quote->kv_bytes.window, bytes.window);
  EXPECT_EQ(quote->sessions_now, quote->sessions_empty);
  EXPECT_EQ(quote->sessions_empty, EmptyRoom(test.options.arena).Times(NeedOf(TestLayout(), 119)));
  EXPECT_FALSE(quote->start_s) << "nothing was measured";
  test.Submit(TestRequest("a", 40, 10))->Wait();
  test.StatsWhenIdle();
  const auto measured = test.Quote(100, 20);
  ASSERT_TRUE(measured.ok());
  EXPECT_EQ(measured->start_s, 0);
  EXPECT_GT(measured->first_token_s.value_or(0), 0);
}

TEST(QuoteTest, WhatCanNeverRunIsRefusedWithTheNumbers) {
  TestEngine test(TestOptions(20, 20));
  test.engine.Start();
  const auto context = test.Quote(500, 13);
  ASSERT_TRUE(context.ok());
  EXPECT_EQ(context->verdict, Verdict::kRefuse);
  EXPECT_NE(context->reason.find("512"), std::string::npos) << context->reason;
  const auto memory = test.Quote(400, 100);
  ASSERT_TRUE(memory.ok());
  EXPECT_EQ(memory->verdict, Verdict::kRefuse);
  EXPECT_NE(memory->reason.find("needs 63 global"), std::string::npos) << memory->reason;
  EXPECT_EQ(memory->sessions_empty, 0);
}

TEST(QuoteTest, NumbersThatAreNoSizes) {
  TestEngine test;
  test.engine.Start();
  for (const int64_t wrong : {int64_t{0}, int64_t{-1}, int64_t{1} << 31, std::numeric_limits<int64_t>::max(),
                              std::numeric_limits<int64_t>::min()}) {
    EXPECT_TRUE(absl::IsInvalidArgument(test.Quote(wrong, 5).status()));
    EXPECT_TRUE(absl::IsInvalidArgument(test.Quote(5, wrong).status()));
  }
}

TEST(QuoteTest, ABusyEngineQueuesAndAFullQueueRefuses) {
  EngineOptions options = TestOptions();
  options.max_num_seqs = 1;
  options.max_waiting = 2;
  TestEngine test(options);
  test.model->hook = [](const StepPlan&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // so that 400 steps outlast the test
    return absl::OkStatus();
  };
  test.engine.Start();
  test.Submit(TestRequest("a", 10, 400))->WaitForTokens(1);
  test.Submit(TestRequest("b", 10, 5));
  const auto queued = test.Quote(10, 5);
  ASSERT_TRUE(queued.ok());
  EXPECT_EQ(queued->verdict, Verdict::kQueue);
  EXPECT_EQ(queued->ahead, 1);
  EXPECT_EQ(queued->ahead_tokens, 10);
  EXPECT_GT(queued->start_s.value_or(0), 0);
  EXPECT_GT(queued->first_token_s.value_or(0), *queued->start_s);
  EXPECT_LT(queued->sessions_now, queued->sessions_empty);
  test.Submit(TestRequest("c", 10, 5));
  const auto full = test.Quote(10, 5);
  ASSERT_TRUE(full.ok());
  EXPECT_EQ(full->verdict, Verdict::kRefuse);
  EXPECT_NE(full->reason.find("2 of 2"), std::string::npos) << full->reason;
  test.engine.Stop();
}

TEST(QuoteTest, ManyThreadsAskWhileRequestsRunAndTheEngineStops) {
  TestEngine test;
  test.engine.Start();
  std::vector<std::thread> threads;
  std::atomic<int> answers = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0;; ++i) {
        const auto quote = test.Quote(1 + (i + t) % 300, 1 + i % 100);
        if (!quote.ok()) {
          EXPECT_TRUE(absl::IsUnavailable(quote.status())) << quote.status();
          return;
        }
        ++answers;
      }
    });
  }
  std::vector<std::shared_ptr<CollectSink>> sinks;
  for (int i = 0; i < 40; ++i) sinks.push_back(test.Submit(TestRequest("r" + std::to_string(i), 10 + i * 5, 30, i)));
  for (const auto& sink : sinks) sink->Wait();
  // A thread may not have had a turn yet.
  const auto start = Clock::now();
  while (answers == 0 && SecondsSince(start) < 30) std::this_thread::yield();
  EXPECT_GT(answers, 0);
  test.engine.Stop();
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace hysparse
