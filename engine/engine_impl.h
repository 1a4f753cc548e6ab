// The engine's state and step loop; engine.h is what others see. Private to engine*.cc.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/base/clock.h"
#include "engine/engine.h"
#include "engine/inbox.h"
#include "engine/kv/block_manager.h"
#include "engine/schedule/scheduler.h"
#include "engine/schedule/step_clock.h"
#include "engine/sequence.h"
#include "engine/stats_board.h"

namespace hysparse {

constexpr Clock::time_point kNever{};

inline double Between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

// The members above the line are the engine thread's alone; those below are shared and guard themselves.
class Engine::Impl {
 public:
  Impl(const EngineOptions& options, const ModelSpec& spec, std::unique_ptr<Executor> executor,
       EngineObserver* observer);

  void Start();
  void Stop();
  absl::Status Submit(GenerateRequest request, std::shared_ptr<OutputSink> sink);
  void Cancel(const std::string& id, int32_t choice) { inbox_.Cancel(id, choice); }
  absl::Status CanQueue() const { return inbox_.CanTake(1, 1); }
  absl::Status AskSnapshot(std::function<void(SnapshotPtr)> then) { return inbox_.AskSnapshot(std::move(then)); }
  absl::StatusOr<QuoteResult> Quote(const ForecastInput& snapshot, int64_t prompt_tokens, int64_t max_tokens) const;
  EngineStats Stats() const { return board_.Read(inbox_.waiting()); }

 private:
  using SequencePtr = std::shared_ptr<Sequence>;
  // A step that is launched and not yet waited for.
  struct StepInFlight {
    uint64_t step = 0;
    std::vector<PlannedSequence> planned;
    std::vector<int32_t> targets;  // of its rows: the prompt token that is scored, -1 for one that is sampled
    int32_t tokens = 0, prompt_tokens = 0;
    StepWork work;
    Clock::time_point launched{};
  };

  // engine.cc
  void Run();
  void Receive(std::vector<Command>& commands);
  void AddRequest(const std::shared_ptr<RequestState>& request);
  void CancelRequest(const std::string& id, int32_t choice);
  void ReleaseFollowers(RequestState& request);
  void End(Sequence& sequence, FinishReason reason, StepOutput output = {});
  void EndAll(FinishReason reason, const absl::Status& error);
  void PublishStats();
  void CheckInvariants() const;

  // engine_step.cc
  bool LaunchStep();
  void CommitOldest();
  void CommitStep(const StepInFlight& step, const StepResult& result);
  void CommitSequence(const StepInFlight& step, const PlannedSequence& planned, const StepResult& result);
  // Takes the step's rows of a sequence. The reason that ends it, kNone if it goes on.
  FinishReason TakeRows(const StepInFlight& step, const PlannedSequence& planned, const StepResult& result,
                        StepOutput& output);
  void ObserveToken(Sequence& sequence);
  void FailStep(const StepInFlight& step, const absl::Status& error);

  // engine_quote.cc
  SnapshotPtr Snapshot() const;

  const EngineOptions options_;
  const ModelSpec spec_;
  const int32_t max_model_len_;
  std::unique_ptr<Executor> executor_;
  EngineObserver* observer_;
  BlockManager blocks_;  // outlives the sequences below
  Scheduler scheduler_;
  std::unordered_map<std::string, std::vector<SequencePtr>> requests_;  // live choices by request id
  std::deque<StepInFlight> in_flight_;                                  // oldest first
  int64_t next_sequence_ = 0;
  StepClock step_clock_;
  LengthRatio length_ratio_;
  Clock::time_point now_{}, last_done_{};
  // ---
  Inbox inbox_;
  StatsBoard board_;
  std::mutex lifecycle_;
  bool stopped_ = false;
  std::thread thread_;
};

}  // namespace hysparse
