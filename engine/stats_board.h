// StatsBoard: the engine's figures, written by its thread after every step and read by any other without a lock, so
// that /metrics and the probes never wait for a step. Each figure is exact; figures of one reading may be a step apart.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <iterator>

#include "engine/base/clock.h"
#include "engine/engine.h"

namespace hysparse {

class StatsBoard {
 public:
  // The engine thread woke from idling: the heartbeat counts from here.
  void Wake(Clock::time_point now) { last_step_.store(now.time_since_epoch().count(), std::memory_order_relaxed); }
  void Step(Clock::time_point now) {
    Wake(now);
    steps_.fetch_add(1, std::memory_order_relaxed);
  }
  void Publish(const EngineStats& stats, bool busy) {
    for (size_t i = 0; i < kFields; ++i) figures_[i].store(*Field(stats, i), std::memory_order_relaxed);
    busy_.store(busy, std::memory_order_relaxed);
  }

  EngineStats Read(int32_t waiting) const {
    EngineStats stats;
    for (size_t i = 0; i < kFields; ++i) {
      *const_cast<int64_t*>(Field(stats, i)) = figures_[i].load(std::memory_order_relaxed);
    }
    stats.waiting = waiting;
    stats.steps = steps_.load(std::memory_order_relaxed);
    if (busy_.load(std::memory_order_relaxed)) {
      const Clock::duration since(last_step_.load(std::memory_order_relaxed));
      stats.seconds_since_step = SecondsSince(Clock::time_point(since));
    }
    return stats;
  }

 private:
  // What the engine thread publishes; the rest of EngineStats is read where it is counted.
  static const int64_t* Field(const EngineStats& s, size_t i) {
    const int64_t* const fields[] = {&s.running,
                                     &s.spilled,
                                     &s.global.referenced,
                                     &s.global.cached,
                                     &s.global.spilling,
                                     &s.global.free,
                                     &s.window.referenced,
                                     &s.window.cached,
                                     &s.window.spilling,
                                     &s.window.free,
                                     &s.kv_unassigned,
                                     &s.kv_total,
                                     &s.host_used,
                                     &s.host_total,
                                     &s.kv_tokens,
                                     &s.kv_window_tokens,
                                     &s.preemptions,
                                     &s.spills,
                                     &s.recomputes,
                                     &s.spilled_bytes,
                                     &s.prefix.queried_tokens,
                                     &s.room.unassigned_slabs,
                                     &s.room.global_spare,
                                     &s.room.window_spare,
                                     &s.room.global_per_slab,
                                     &s.room.window_per_slab,
                                     &s.prefix.hit_tokens,
                                     &s.prefix.rebuilt_tokens,
                                     &s.prefix.full_hits,
                                     &s.prefix.cold_misses,
                                     &s.prefix.evicted_misses,
                                     &s.prefix.short_prompts,
                                     &s.prefix.not_cached};
    static_assert(std::size(fields) == kFields);
    return fields[i];
  }
  static constexpr size_t kFields = 33;

  std::array<std::atomic<int64_t>, kFields> figures_{};
  std::atomic<int64_t> last_step_{0}, steps_{0};
  std::atomic<bool> busy_{false};
};

}  // namespace hysparse
