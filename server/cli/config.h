// Config: what the command line, the environment and a YAML file say together, checked. One table (option_table.cc)
// declares every option once; its flag, its environment variable and its YAML key follow from its name:
//
//   max-model-len  →  --max-model-len N · HYSPARSE_MAX_MODEL_LEN=N · max-model-len: N     (flag > environment > file)
//
// Filled in by ReadConfig before any thread starts, then only read. Errors are one line that names where the value came
// from and what to change.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/dtype.h"
#include "server/server_options.h"

namespace hysparse {

enum Command : unsigned { kServe = 1, kPlan = 2, kGenerate = 4, kBench = 8, kSimulate = 16 };
constexpr unsigned kRunsModel = kServe | kGenerate | kBench;
constexpr unsigned kAnyCommand = kRunsModel | kPlan | kSimulate;

// How a model is loaded and run: serve, generate and bench.
struct EngineConfig {
  int32_t max_model_len = 0;  // 0: the model's own limit, or what the KV cache holds
  int32_t max_num_seqs = 64;
  int32_t max_num_batched_tokens = 2048;
  std::string device = "auto";
  std::string dtype = "auto";
  int64_t kv_cache_memory = 0;          // bytes; 0: by gpu_memory_utilization
  double gpu_memory_utilization = 0.5;  // of the memory that is available to the process, weights included
  int32_t threads = 0;                  // 0: one per core
  std::string load_format = "auto";
  int32_t tensor_parallel_size = 1;
  bool enable_prefix_caching = true;
  int64_t kv_host_memory = -1;   // bytes for spilled pages; -1: a quarter of the KV cache
  int32_t output_reserve = 512;  // answer tokens that a request is promised room for at admission
  int32_t max_waiting = 1024;    // queued choices
  int64_t max_waiting_tokens = int64_t{16} << 20;
};

struct PlanConfig {
  int64_t context = 0;  // 0: the table's usual contexts
  int32_t kv_bytes = 2;
  int64_t memory = 0;  // bytes for KV; 0: what `serve` would take here
};

struct SimulateConfig {
  std::string workload;  // a preset or a file
  int64_t gpu_memory = 0, host_memory = 0;
  double gpu_memory_utilization = 0.92;
  int32_t tensor_parallel_size = 1, max_num_seqs = 256, max_num_batched_tokens = 2048, output_reserve = 512;
  double duration = 0, load = 0;  // 0: the workload's
  uint64_t seed = 1;
  bool no_depth_budget = false, alone = false;
  // Of one GPU; an H200 (engine/sim/work_model.h).
  double bandwidth = 3.9e12, flops = 797e12, step_overhead = 0.9e-3;
};

struct GenerateConfig {
  std::string prompt, system;
  bool raw = false;
  int32_t max_tokens = 0;  // 0: what the context leaves
  std::optional<double> temperature, top_p;
  std::optional<int32_t> top_k;
  std::optional<uint64_t> seed;
};

struct Config {
  Command command = kServe;
  std::string model;
  std::vector<std::string> served_model_names;  // empty: the folder's name
  EngineConfig engine;
  ServerOptions server;
  int32_t grpc_port = 9000;  // -1: off
  PlanConfig plan;
  SimulateConfig simulate;
  GenerateConfig generate;
  int32_t bench_runs = 5;
  bool bench_ceilings = true;
  bool json = false;
  std::string log_level = "info", log_format = "text";
};

// What to print and end with instead of running: --help and --version.
struct Printed {
  std::string text;
};

struct ReadConfigResult {
  Config config;
  std::optional<Printed> printed;
};

// Returns an environment variable's value, null when it is unset.
using Environment = std::function<const char*(const std::string&)>;

absl::StatusOr<ReadConfigResult> ReadConfig(const std::vector<std::string>& arguments, const Environment& environment);

}  // namespace hysparse
