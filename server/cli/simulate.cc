#include "server/cli/simulate.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/result.h"
#include "engine/sim/simulator.h"
#include "server/cli/format.h"
#include "server/cli/model_folder.h"
#include "server/cli/option_values.h"

namespace hysparse {
namespace {

using Json = nlohmann::ordered_json;

struct Setup {
  Workload workload;
  WorkModel work;
  SimulatorOptions options;
};

absl::StatusOr<Workload> WorkloadOf(const SimulateConfig& c) {
  if (c.workload.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("which workload? --workload FILE, or one of the presets ", PresetNames()));
  }
  HYSPARSE_ASSIGN_OR_RETURN(Workload workload, ReadWorkload(c.workload));
  if (c.duration > 0) workload.duration = c.duration;
  if (c.load > 0) {
    if (!workload.arrivals.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("--load: ", c.workload, " has arrivals of its own; leave it out"));
    }
    workload.load = c.load;
    workload.rate = 0;
  }
  return workload;
}

absl::StatusOr<Setup> SetUp(const Config& config, const ModelSpec& spec) {
  const SimulateConfig& c = config.simulate;
  HYSPARSE_ASSIGN_OR_RETURN(Workload workload, WorkloadOf(c));
  const KvLayout layout = MakeKvLayout(spec, DType::kBF16, c.tensor_parallel_size);
  WorkModel work(spec, layout, c.tensor_parallel_size);
  if (c.gpu_memory <= 0) return absl::InvalidArgumentError("--gpu-memory SIZE is needed: the memory of one GPU");
  const double memory = static_cast<double>(c.gpu_memory) * c.gpu_memory_utilization - work.WeightBytes();
  if (memory <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a GPU's share of the weights is ", FormatDecimal(work.WeightBytes()), " and it may use ",
                     FormatDecimal(static_cast<double>(c.gpu_memory) * c.gpu_memory_utilization),
                     "; raise --gpu-memory or --tensor-parallel-size"));
  }
  SimulatorOptions options;
  options.blocks.layout = layout;
  HYSPARSE_ASSIGN_OR_RETURN(options.blocks.device, MakeArenaLayout(layout, static_cast<int64_t>(memory)));
  if (c.host_memory > 0) {
    HYSPARSE_ASSIGN_OR_RETURN(options.blocks.host, MakeArenaLayout(layout, c.host_memory));
  }
  options.blocks.rebuild_tokens = RebuildTokens(spec);
  options.blocks.hash_key = c.seed;
  options.schedule.max_num_seqs = c.max_num_seqs;
  options.schedule.max_num_batched_tokens = c.max_num_batched_tokens;
  options.schedule.output_reserve = c.output_reserve;
  if (!c.no_depth_budget) options.schedule.cost = StepCost(spec);
  options.vocab = spec.vocab;
  options.seed = c.seed;
  const double speed = c.flops / options.device.gemm_flops;
  options.device.bandwidth = c.bandwidth;
  options.device.gemm_flops *= speed;
  options.device.attention_flops *= speed;
  options.device.sparse_flops *= speed;
  options.device.step_overhead = c.step_overhead;
  return Setup{std::move(workload), std::move(work), options};
}

std::string AsText(const SimulationReport& report, double capacity) {
  std::vector<std::vector<std::string>> rows = {
      {"class", "turns", "refused", "TTFT p50", "p99", "first prefill p50", "TPOT p50", "p99"}};
  const auto ms = [](const std::vector<float>& values, double share) {
    return absl::StrFormat("%.1f ms", 1e3 * Percentile(values, share));
  };
  for (const ClassReport& of : report.classes) {
    int64_t refused = 0;
    for (const auto& [reason, count] : of.refused) refused += count;
    rows.push_back({of.name, GroupDigits(of.finished), GroupDigits(refused), ms(of.ttft, 0.5), ms(of.ttft, 0.99),
                    ms(of.first_prefill, 0.5), ms(of.tpot, 0.5), ms(of.tpot, 0.99)});
  }
  std::string text = FormatTable(rows);
  if (capacity > 0)
    absl::StrAppendFormat(&text, "  capacity %.4g sessions/s, arrivals %.4g/s\n", capacity, report.rate);
  absl::StrAppendFormat(&text, "  at most %d sessions at once, %d preemptions, at least %.2f %% of the arena usable\n",
                        report.most_running, report.scheduler.preemptions, 100 * report.least_usable);
  return text;
}

}  // namespace

absl::Status RunSimulate(const Config& config) {
  HYSPARSE_ASSIGN_OR_RETURN(const ModelFolder folder, FindModel(config.model));
  HYSPARSE_ASSIGN_OR_RETURN(const ModelSpec spec, ReadModelSpec(folder.path));
  HYSPARSE_ASSIGN_OR_RETURN(const Setup setup, SetUp(config, spec));
  const Workload& workload = setup.workload;
  double capacity = 0;
  Load load;
  load.rate = workload.rate;
  if (workload.load > 0) {
    capacity = MeasureCapacity(setup.options, setup.work, workload);
    if (capacity <= 0) {
      return absl::InvalidArgumentError("no session of this workload is ever admitted; raise --gpu-memory");
    }
    load.rate = workload.load * capacity;
  }
  const SimulationReport report = Simulate(setup.options, setup.work, workload, load);
  if (!config.json) {
    const std::string text = AsText(report, capacity);
    std::fwrite(text.data(), 1, text.size(), stdout);
    return absl::OkStatus();
  }
  Json out = {{"model", folder.name},
              {"workload", config.simulate.workload},
              {"seed", config.simulate.seed},
              {"tensor_parallel_size", config.simulate.tensor_parallel_size},
              {"weight_bytes_per_gpu", setup.work.WeightBytes()},
              {"capacity_sessions_per_s", capacity}};
  out.update(ReportAsJson(report));
  if (config.simulate.alone) {
    for (size_t i = 0; i < workload.classes.size(); ++i) {
      load.only_class = static_cast<int32_t>(i);
      const Json alone = ReportAsJson(Simulate(setup.options, setup.work, workload, load));
      out["classes"][workload.classes[i].name]["alone"] = alone["classes"][workload.classes[i].name];
    }
  }
  const std::string text = out.dump(2) + "\n";
  std::fwrite(text.data(), 1, text.size(), stdout);
  return absl::OkStatus();
}

}  // namespace hysparse
