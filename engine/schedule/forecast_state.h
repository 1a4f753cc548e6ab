// What a forecast's simulation keeps: the sequences that run or are spilled, the pages that they hold, and the queues
// of what happens to them next. The scheduler's rules, which move them, are in forecast.cc. Plain state; no clock.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <queue>
#include <vector>

#include "engine/schedule/forecast.h"

namespace hysparse {

class ForecastState {
 protected:
  static constexpr double kLeastCost = 1e-6;  // of a prefill: less is rounding
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

  // One that runs or is spilled.
  struct Job {
    ForecastSequence sequence;
    double cost_left = 0, token_cost = 0;  // of its prefill; of one token of it
    int64_t decodes_left = 0;              // steps it takes part in once its prefill is done
    int64_t start = 0, end = kNever;       // steps: of its first decode; when what it holds can be had
    int64_t promised_until = kNever;       // the step from which it takes more than its promise
    double global = 0, window = 0;         // pages promised
    bool running = false, growing = false, is_new = false;
    uint32_t turn = 0;  // entries of the queues below that name another turn are void
  };

  struct Event {
    int64_t at = 0;  // a step, or an id
    size_t job = 0;
    uint32_t turn = 0;
    bool operator>(const Event& other) const { return at > other.at; }
  };
  using Events = std::priority_queue<Event, std::vector<Event>, std::greater<>>;

  explicit ForecastState(const ForecastInput& in);

  size_t NewJob(const ForecastSequence& sequence);
  int64_t DecodesLeft(const ForecastSequence& sequence) const;
  PageNeed NeedOfReserve(const ForecastSequence& sequence) const;
  KvRoom Room() const;
  bool CanProvide(const PageNeed& need) const { return Room().CanProvide(need); }
  void Claim(Job& job, const PageNeed& need);
  void Begin(size_t at);
  void BeginDecode(size_t at);
  void Stop(size_t at);
  // Drops void entries, then the first or null.
  const Event* First(Events& events) {
    while (!events.empty() && events.top().turn != jobs_[events.top().job].turn) events.pop();
    return events.empty() ? nullptr : &events.top();
  }

  const ForecastInput& in_;
  const double page_tokens_;
  std::vector<Job> jobs_;
  std::vector<size_t> free_jobs_, spilled_;  // spilled: oldest first
  std::vector<size_t> prefills_;             // least left first
  Events oldest_, ends_, growth_;            // prefills by id; decodes by end; by promised_until
  double global_spare_ = 0, window_spare_ = 0;
  int64_t step_ = 0, running_ = 0, alongside_ = 0, decodes_ = 0, growing_ = 0;
  double depth_ = 0;
  bool done_ = false;  // the new request decodes
};

}  // namespace hysparse
