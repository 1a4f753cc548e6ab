// StatsBoard: the engine's figures, written by its thread after every step and read by any other without a lock, so
// that /metrics and the probes never wait for a step. Each figure is exact; figures of one reading may be a step apart.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "engine/base/clock.h"
#include "engine/engine.h"

namespace hysparse {

class StatsBoard {
 public:
  // The engine thread woke from idling: the heartbeat counts from here.
  void Wake(Clock::time_point now) { Set(last_step_, now.time_since_epoch().count()); }
  void Step(Clock::time_point now) {
    Wake(now);
    steps_.fetch_add(1, std::memory_order_relaxed);
  }
  void Publish(const EngineStats& stats, bool busy) {
    Set(running_, stats.running);
    Set(global_used_, stats.global_pages_used);
    Set(global_total_, stats.global_pages_total);
    Set(window_used_, stats.window_pages_used);
    Set(window_total_, stats.window_pages_total);
    Set(kv_tokens_, stats.kv_tokens);
    busy_.store(busy, std::memory_order_relaxed);
  }

  EngineStats Read(int32_t waiting) const {
    EngineStats stats;
    stats.waiting = waiting;
    stats.running = static_cast<int32_t>(Get(running_));
    stats.global_pages_used = Get(global_used_);
    stats.global_pages_total = Get(global_total_);
    stats.window_pages_used = Get(window_used_);
    stats.window_pages_total = Get(window_total_);
    stats.kv_tokens = Get(kv_tokens_);
    stats.steps = steps_.load(std::memory_order_relaxed);
    if (busy_.load(std::memory_order_relaxed)) {
      stats.seconds_since_step = SecondsSince(Clock::time_point(Clock::duration(Get(last_step_))));
    }
    return stats;
  }

 private:
  static void Set(std::atomic<int64_t>& figure, int64_t value) { figure.store(value, std::memory_order_relaxed); }
  static int64_t Get(const std::atomic<int64_t>& figure) { return figure.load(std::memory_order_relaxed); }

  std::atomic<int64_t> running_{0}, kv_tokens_{0}, last_step_{0};
  std::atomic<int64_t> global_used_{0}, global_total_{0}, window_used_{0}, window_total_{0};
  std::atomic<uint64_t> steps_{0};
  std::atomic<bool> busy_{false};
};

}  // namespace hysparse
