#include "engine/sim/report.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

namespace hysparse {
namespace {

using Json = nlohmann::ordered_json;

Json Distribution(const std::vector<float>& values) {
  Json out = {{"count", values.size()}};
  if (values.empty()) return out;
  out["mean"] = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  for (const auto& [name, share] : {std::pair{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"max", 1.0}}) {
    out[name] = Percentile(values, share);
  }
  return out;
}

Json ClassAsJson(const ClassReport& of) {
  return {{"turns_arrived", of.arrived},           {"turns_finished", of.finished},
          {"turns_refused", of.refused},           {"ttft_s", Distribution(of.ttft)},
          {"tpot_s", Distribution(of.tpot)},       {"queue_s", Distribution(of.queue)},
          {"prefill_s", Distribution(of.prefill)}, {"first_turn_prefill_s", Distribution(of.first_prefill)},
          {"stall_s", Distribution(of.stall)},     {"preemptions", Distribution(of.preempted)}};
}

Json SeriesAsJson(const std::vector<SeriesPoint>& series) {
  Json out = {{"at_s", Json::array()},    {"running", Json::array()},          {"waiting", Json::array()},
              {"spilled", Json::array()}, {"referenced_bytes", Json::array()}, {"cached_bytes", Json::array()}};
  for (const SeriesPoint& point : series) {
    out["at_s"].push_back(point.at);
    out["running"].push_back(point.running);
    out["waiting"].push_back(point.waiting);
    out["spilled"].push_back(point.spilled);
    out["referenced_bytes"].push_back(point.referenced_bytes);
    out["cached_bytes"].push_back(point.cached_bytes);
  }
  return out;
}

}  // namespace

double Percentile(std::vector<float> values, double share) {
  if (values.empty()) return 0;
  const double rank = std::ceil(share * static_cast<double>(values.size()));
  const auto at = static_cast<std::ptrdiff_t>(std::clamp(rank, 1.0, static_cast<double>(values.size()))) - 1;
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[static_cast<size_t>(at)];
}

Json ReportAsJson(const SimulationReport& r) {
  Json classes = Json::object();
  for (const ClassReport& of : r.classes) classes[of.name] = ClassAsJson(of);
  const PrefixStats& prefix = r.prefix;
  return {{"duration_s", r.duration},
          {"sessions_per_s", r.rate},
          {"classes", std::move(classes)},
          {"steps", r.steps},
          {"busy_share", r.busy / r.duration},
          {"longest_step_s", r.longest_step},
          {"prompt_tokens_per_s", static_cast<double>(r.prompt_tokens) / r.duration},
          {"output_tokens_per_s", static_cast<double>(r.output_tokens) / r.duration},
          {"most_running", r.most_running},
          {"preemptions", r.scheduler.preemptions},
          {"spills", r.scheduler.spills},
          {"recomputes", r.scheduler.recomputes},
          {"returns", r.scheduler.returns},
          {"spilled_bytes", r.spilled_bytes},
          {"prefix",
           {{"queried_tokens", prefix.queried_tokens},
            {"hit_tokens", prefix.hit_tokens},
            {"rebuilt_tokens", prefix.rebuilt_tokens},
            {"full_hits", prefix.full_hits},
            {"cold_misses", prefix.cold_misses},
            {"evicted_misses", prefix.evicted_misses}}},
          {"arena",
           {{"bytes", r.arena_bytes},
            {"memory_refusals", r.memory_refusals},
            {"least_usable_share", r.least_usable},
            {"mean_usable_share", r.mean_usable}}},
          {"refusal", r.refusal},
          {"series", SeriesAsJson(r.series)}};
}

}  // namespace hysparse
