// The forecast against cases worked out by hand, and against the real scheduler and block manager in virtual time.
#include "engine/schedule/forecast.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <random>

#include "engine/kv/block_manager.h"
#include "engine/schedule/snapshot.h"
#include "tests/unit/engine/test_engine.h"

namespace hysparse {
namespace {

ForecastInput EmptyInput(int64_t global_pages = 200, int64_t window_pages = 60) {
  ForecastInput in;
  in.layout = TestLayout();
  in.room = EmptyRoom(TestArena(global_pages, window_pages));
  in.options.max_num_seqs = 2;
  in.options.max_num_batched_tokens = 32;
  in.rates = {1, 0, 0, 0, true};  // a second a step
  return in;
}

ForecastSequence Decoding(int64_t id, int32_t kv_tokens, int32_t output, int32_t max_tokens) {
  ForecastSequence s;
  s.id = id;
  s.kv_tokens = kv_tokens;
  s.output_tokens = output;
  s.max_tokens = max_tokens;
  s.pages = NeedOf(TestLayout(), kv_tokens + max_tokens - output);
  return s;
}

ForecastSequence Waiting(int64_t id, int32_t prompt, int32_t max_tokens) {
  ForecastSequence s;
  s.id = s.queue_key = id;
  s.prefill_left = prompt;
  s.max_tokens = max_tokens;
  return s;
}

TEST(ForecastTest, AnIdleEngineStartsAtOnce) {
  const Forecast forecast = MakeForecast(EmptyInput(), 70, 10);
  EXPECT_TRUE(forecast.at_once);
  EXPECT_EQ(forecast.ahead, 0);
  EXPECT_EQ(forecast.start_s, 0);
  EXPECT_EQ(forecast.first_token_s, 3);  // chunks of 32, 32 and 6
}

TEST(ForecastTest, NothingIsSaidBeforeAStepWasMeasured) {
  ForecastInput in = EmptyInput();
  in.rates = {};
  const Forecast forecast = MakeForecast(in, 70, 10);
  EXPECT_TRUE(forecast.at_once);
  EXPECT_FALSE(forecast.start_s || forecast.first_token_s);
}

TEST(ForecastTest, WaitsForASlot) {
  ForecastInput in = EmptyInput();
  in.under_way = {0, 1, 0};
  in.next_id = 2;
  in.running = {Decoding(0, 40, 10, 30), Decoding(1, 40, 10, 60)};
  const Forecast forecast = MakeForecast(in, 20, 10);
  EXPECT_FALSE(forecast.at_once);
  // 20 steps, one that is under way, one for the first token besides the one before it.
  EXPECT_EQ(forecast.start_s, 21);
  EXPECT_EQ(forecast.first_token_s, 23);
}

TEST(ForecastTest, TheQueueGoesFirst) {
  ForecastInput in = EmptyInput();
  in.options.max_num_seqs = 1;
  in.under_way = {0, 1, 0};
  in.next_id = 3;
  in.running = {Decoding(0, 40, 10, 20)};
  in.waiting = {Waiting(1, 32, 5), Waiting(2, 16, 6)};
  const Forecast forecast = MakeForecast(in, 10, 10);
  EXPECT_EQ(forecast.ahead, 2);
  EXPECT_EQ(forecast.ahead_tokens, 48);
  EXPECT_EQ(forecast.start_s, 11 + 5 + 6);
  EXPECT_EQ(forecast.first_token_s, 23);
}

TEST(ForecastTest, AShortPromptPassesALongOne) {
  ForecastInput in = EmptyInput();
  in.options.max_num_seqs = 1;
  in.next_id = 2;
  in.running = {Decoding(0, 40, 10, 20)};
  in.waiting = {Waiting(1, 300, 5)};
  in.waiting[0].queue_key = QueueKey(in.options, 1, 300, 0);
  EXPECT_EQ(MakeForecast(in, 10, 10).ahead, 0);
  EXPECT_EQ(MakeForecast(in, 300, 10).ahead, 1);
  EXPECT_EQ(MakeForecast(in, 10, 10, /*priority=*/20).ahead, 1);
}

TEST(ForecastTest, WaitsForMemory) {
  ForecastInput in = EmptyInput();
  in.options.max_num_seqs = 8;
  in.under_way = {0, 1, 0};
  in.next_id = 1;
  in.running = {Decoding(0, 40, 10, 30)};
  in.room.unassigned_slabs = 0;
  EXPECT_EQ(MakeForecast(in, 20, 10).start_s, 21);
}

TEST(ForecastTest, LearntLengthsShortenTheWait) {
  ForecastInput in = EmptyInput();
  in.options.max_num_seqs = 1;
  in.under_way = {0, 1, 0};
  in.next_id = 1;
  in.running = {Decoding(0, 40, 10, 110)};
  in.length_ratio = 0.5;
  EXPECT_EQ(MakeForecast(in, 20, 10).start_s, 46);  // of 55 tokens 10 are out
}

// The engine's loop with virtual time: real scheduler, real block manager, steps that take what the rates say.
class VirtualEngine {
 public:
  VirtualEngine(const SchedulerOptions& options, int64_t global_pages, int64_t window_pages, const StepRates& rates)
      : rates_(rates), blocks_(Options(global_pages, window_pages)), scheduler_(options, &blocks_) {}

  int64_t Add(int32_t prompt, int32_t max_tokens) {
    auto state = std::make_shared<RequestState>();
    state->request = TestRequest("r", prompt, max_tokens);
    state->live_choices = 1;
    auto sequence = std::make_shared<Sequence>(next_id_, state, 0);
    scheduler_.Add(sequence);
    ++live_;
    return next_id_++;
  }

  ForecastInput Snapshot() const {
    ForecastInput in = SnapshotOf(scheduler_, blocks_);
    in.rates = rates_;
    in.next_id = next_id_;
    if (!in_flight_.empty()) in.under_way = in_flight_.back().work;
    return in;
  }

  // One turn of the loop; false when all have ended.
  bool Turn() {
    if (live_ == 0 && in_flight_.empty()) return false;
    StepPlan plan = scheduler_.Plan();
    for (const auto& sequence : scheduler_.newly_admitted()) started[sequence->id()] = now;
    const bool launched = !plan.empty();
    if (launched) {
      const StepWork work = MeasureStep(plan, scheduler_.options().cost);
      done_ = std::max(now, done_) + rates_.Seconds(work);
      in_flight_.push_back({plan.step, done_, work, scheduler_.TakePlanned()});
    }
    if (in_flight_.size() == 2 || (!launched && !in_flight_.empty())) Commit();
    return true;
  }

  double now = 0;
  std::map<int64_t, double> started, first_token;

 private:
  struct Step {
    uint64_t step = 0;
    double done = 0;
    StepWork work;
    std::vector<PlannedSequence> planned;
  };

  static BlockManagerOptions Options(int64_t global_pages, int64_t window_pages) {
    BlockManagerOptions options;
    options.layout = TestLayout();
    options.device = TestArena(global_pages, window_pages);
    options.host = TestArena(2000, 2000);
    return options;
  }

  void Commit() {
    const Step step = std::move(in_flight_.front());
    in_flight_.pop_front();
    now = step.done;
    blocks_.CompleteStep(step.step);
    for (const PlannedSequence& planned : step.planned) {
      Sequence& sequence = *planned.sequence;
      if (sequence.state() == SequenceState::kFinished) continue;
      if (sequence.kv() != nullptr) sequence.Computed(planned.computed);
      for (int32_t row = planned.rows.begin; row < planned.rows.end; ++row) {
        first_token.try_emplace(sequence.id(), now);
        if (const FinishReason finish = sequence.Accept(step.step, 1); finish != FinishReason::kNone) {
          sequence.Finish(finish);
          scheduler_.Remove(sequence);
          --live_;
        }
      }
    }
  }

  const StepRates rates_;
  BlockManager blocks_;
  Scheduler scheduler_;
  std::deque<Step> in_flight_;
  double done_ = 0;
  int64_t next_id_ = 0, live_ = 0;
};

struct Case {
  int32_t slots, budget, reserve;
  int64_t global_pages;
  int32_t most_prompt, most_answer, requests, turns;
};

// Relative errors of predicted against actual starts and first tokens, over random states of one kind.
std::vector<double> Errors(const Case& c, int seeds) {
  std::vector<double> errors;
  for (int seed = 0; seed < seeds; ++seed) {
    std::mt19937 random(static_cast<uint32_t>(seed));
    const auto any = [&](int32_t least, int32_t most) {
      return std::uniform_int_distribution<int32_t>(least, most)(random);
    };
    SchedulerOptions options;
    options.max_num_seqs = c.slots;
    options.max_num_batched_tokens = c.budget;
    options.output_reserve = c.reserve;
    VirtualEngine engine(options, c.global_pages, 4 * c.slots + 16, {0.004, 1e-4, 2e-4, 1e-6, true});
    for (int32_t i = 0; i < c.requests; ++i) engine.Add(any(1, c.most_prompt), any(1, c.most_answer));
    for (int32_t turn = any(0, c.turns); turn > 0; --turn) engine.Turn();
    const int32_t prompt = any(1, c.most_prompt), answer = any(1, c.most_answer);
    const Forecast forecast = MakeForecast(engine.Snapshot(), prompt, answer);
    const double asked = engine.now;
    const int64_t id = engine.Add(prompt, answer);
    while (engine.first_token.count(id) == 0 && engine.Turn()) {
    }
    const double start = engine.started.at(id) - asked, first = engine.first_token.at(id) - asked;
    EXPECT_TRUE(forecast.start_s && forecast.first_token_s);
    EXPECT_EQ(forecast.at_once, start == 0) << "seed " << seed;
    if (start > 0) errors.push_back(std::abs(*forecast.start_s - start) / start);
    errors.push_back(std::abs(*forecast.first_token_s - first) / first);
  }
  std::sort(errors.begin(), errors.end());
  return errors;
}

void ExpectClose(const Case& c) {
  const std::vector<double> errors = Errors(c, 60);
  ASSERT_GE(errors.size(), 60u);
  const double median = errors[errors.size() / 2], p95 = errors[errors.size() * 95 / 100];
  EXPECT_LE(median, 0.1);
  EXPECT_LE(p95, 0.3);
}

TEST(ForecastVirtualTest, SlotsAreShort) { ExpectClose({4, 32, 64, 2000, 60, 60, 80, 200}); }
TEST(ForecastVirtualTest, OneSlot) { ExpectClose({1, 32, 64, 2000, 60, 60, 30, 100}); }
TEST(ForecastVirtualTest, MemoryIsShort) { ExpectClose({32, 64, 512, 100, 200, 100, 80, 200}); }
TEST(ForecastVirtualTest, PromptsAreLong) { ExpectClose({8, 32, 64, 4000, 450, 10, 60, 200}); }
TEST(ForecastVirtualTest, NothingIsPromisedToAnswers) { ExpectClose({16, 64, 0, 120, 60, 200, 80, 200}); }
TEST(ForecastVirtualTest, Light) { ExpectClose({16, 64, 64, 2000, 100, 60, 12, 40}); }

}  // namespace
}  // namespace hysparse
