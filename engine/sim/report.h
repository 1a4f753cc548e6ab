// What a simulation showed, and its JSON. Plain data. Seconds of virtual time, bytes of one GPU.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "engine/kv/block_manager.h"
#include "engine/schedule/scheduler.h"

namespace hysparse {

struct ClassReport {
  std::string name;
  int64_t arrived = 0, finished = 0;              // turns
  std::map<std::string, int64_t> refused;         // by reason
  std::vector<float> ttft, tpot, queue, prefill;  // of turns whose first token is out; tpot: of finished ones
  std::vector<float> first_prefill;               // of first turns: prompts that are computed whole
  std::vector<float> stall;                       // longest time between two tokens; of finished turns
  std::vector<float> preempted;                   // times; of finished turns
};

struct SeriesPoint {
  double at = 0;
  int64_t running = 0, waiting = 0, spilled = 0;
  int64_t referenced_bytes = 0, cached_bytes = 0;
};

struct SimulationReport {
  double duration = 0, rate = 0;  // seconds; sessions a second that came, 0: the workload's own arrivals
  std::vector<ClassReport> classes;
  std::vector<SeriesPoint> series;                          // about 400, evenly spaced
  int64_t steps = 0, prompt_tokens = 0, output_tokens = 0;  // computed
  double busy = 0;                                          // seconds that steps took
  double longest_step = 0;
  int64_t most_running = 0;
  SchedulerStats scheduler;
  PrefixStats prefix;
  int64_t spilled_bytes = 0;
  int64_t arena_bytes = 0, memory_refusals = 0;  // plans in which the head of the queue was refused for memory
  double least_usable = 1, mean_usable = 1;      // UsableShare after each plan
  std::string refusal;                           // one, in words
};

double Percentile(std::vector<float> values, double share);  // 0 for none

nlohmann::ordered_json ReportAsJson(const SimulationReport& report);

}  // namespace hysparse
