#include "server/cli/option_table.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "server/cli/option_values.h"

namespace hysparse {
namespace {

constexpr int32_t kMaxTokens = 1 << 30;

// Stores a port, -1 for "off".
OptionSetter PortOrOff(int32_t& out) {
  return [&out](const std::vector<std::string>& values) -> absl::Status {
    if (values.back() == "off") {
      out = -1;
      return absl::OkStatus();
    }
    return Number<int32_t>(out, 0, 65535)(values);
  };
}

OptionSetter Port(uint16_t& out) {
  return [&out](const std::vector<std::string>& values) -> absl::Status {
    int32_t port = 0;
    absl::Status status = Number<int32_t>(port, 0, 65535)(values);
    if (status.ok()) out = static_cast<uint16_t>(port);
    return status;
  };
}

// A size, or 0 for none.
OptionSetter SizeOrNone(int64_t& out) {
  return [&out](const std::vector<std::string>& values) -> absl::Status {
    if (values.back() != "0") return Size(out)(values);
    out = 0;
    return absl::OkStatus();
  };
}

// A switch that turns another one off.
OptionSetter Not(bool& out) {
  return [&out](const std::vector<std::string>& values) -> absl::Status {
    bool off = false;
    absl::Status status = Switch(off)(values);
    if (status.ok()) out = !off;
    return status;
  };
}

OptionSetter Seconds(std::chrono::milliseconds& out) {
  return [&out](const std::vector<std::string>& values) -> absl::Status {
    int32_t seconds = 0;
    absl::Status status = Number<int32_t>(seconds, 0, 86400)(values);
    if (status.ok()) out = std::chrono::seconds(seconds);
    return status;
  };
}

// Appends the parts of the table, in the order of the help.
void AddModelOptions(Config& c, std::vector<Option>& table) {
  EngineConfig& e = c.engine;
  const std::vector<Option> options = {
      {"device", "DEVICE", kRunsModel, "cpu, cuda or auto", e.device, false, OneOf(e.device, {"cpu", "cuda", "auto"})},
      {"dtype", "DTYPE", kRunsModel, "auto (the checkpoint's; float32 where it is that), float32 or bfloat16", e.dtype,
       false, OneOf(e.dtype, {"auto", "float32", "bfloat16"})},
      {"threads", "N", kRunsModel, "threads of the CPU backend", "one per core", false,
       Number<int32_t>(e.threads, 1, 4096)},
      {"load-format", "FORMAT", kRunsModel, "auto (safetensors) or dummy (random weights, for benchmarks)",
       e.load_format, false, OneOf(e.load_format, {"auto", "dummy"})},
      {"max-model-len", "N", kRunsModel, "longest sequence, prompt and answer",
       "the model's, or what the KV cache holds", false, Number<int32_t>(e.max_model_len, 1, kMaxTokens)},
      {"max-num-seqs", "N", kRunsModel, "sequences that run at once", absl::StrCat(e.max_num_seqs), false,
       Number<int32_t>(e.max_num_seqs, 1, 65536)},
      {"max-num-batched-tokens", "N", kRunsModel, "tokens of one step: long prompts run in chunks of this size",
       absl::StrCat(e.max_num_batched_tokens), false, Number<int32_t>(e.max_num_batched_tokens, 1, 1 << 20)},
      {"kv-cache-memory", "SIZE", kRunsModel, "memory for the KV cache, e.g. 2GiB (wins over --gpu-memory-utilization)",
       "", false, Size(e.kv_cache_memory)},
      {"gpu-memory-utilization", "SHARE", kRunsModel,
       "share of the device's available memory for weights and KV cache; on the CPU, of RAM",
       absl::StrCat(e.gpu_memory_utilization), false, Number<double>(e.gpu_memory_utilization, 0.01, 1.0)},
      {"tensor-parallel-size", "N", kRunsModel, "devices that share the model; only 1 so far", "1", false,
       Number<int32_t>(e.tensor_parallel_size, 1, 1024)},
      {"enable-prefix-caching", "", kRunsModel, "reuse the KV cache of earlier prompts with the same beginning", "on",
       false, Switch(e.enable_prefix_caching)},
      {"no-enable-prefix-caching", "", kRunsModel, "compute every prompt from its first token", "", false,
       Not(e.enable_prefix_caching)},
      {"kv-host-memory", "SIZE", kRunsModel, "host memory that preempted sequences spill their KV cache to; 0: none",
       "a quarter of the KV cache", false, SizeOrNone(e.kv_host_memory)},
      {"output-reserve", "N", kRunsModel,
       "answer tokens, at most max_tokens, that a request has room for when admitted", absl::StrCat(e.output_reserve),
       false, Number<int32_t>(e.output_reserve, 0, kMaxTokens)},
      {"max-waiting", "N", kRunsModel, "choices that may wait; beyond: 429", absl::StrCat(e.max_waiting), false,
       Number<int32_t>(e.max_waiting, 1, 1 << 20)},
      {"max-waiting-tokens", "N", kRunsModel, "prompt tokens that may wait; beyond: 429",
       absl::StrCat(e.max_waiting_tokens), false, Number<int64_t>(e.max_waiting_tokens, 1, int64_t{1} << 40)},
  };
  table.insert(table.end(), options.begin(), options.end());
}

void AddServeOptions(Config& c, std::vector<Option>& table) {
  ServerOptions& s = c.server;
  const std::vector<Option> options = {
      {"host", "ADDRESS", kServe, "address to listen on; 0.0.0.0 for all", s.host, false, Text(s.host)},
      {"port", "PORT", kServe, "HTTP port; 0: any free one", absl::StrCat(s.port), false, Port(s.port)},
      {"grpc-port", "PORT", kServe, "gRPC port; 0: any free one; off: none", absl::StrCat(c.grpc_port), false,
       PortOrOff(c.grpc_port)},
      {"served-model-name", "NAME", kServe, "the model's id in the API; more than one: aliases", "the folder's name",
       true, TextList(c.served_model_names)},
      {"api-key", "KEY", kServe, "key that clients must send; repeat for several", "", true, TextList(s.api_keys)},
      {"api-key-file", "FILE", kServe, "file of such keys, one a line: kept out of the process list", "", true,
       LinesOfFiles(s.api_keys)},
      {"ssl-certfile", "FILE", kServe, "certificate chain (PEM): serve TLS", "", false, Text(s.tls_certificate)},
      {"ssl-keyfile", "FILE", kServe, "its private key (PEM)", "", false, Text(s.tls_key)},
      {"cors-allow-origin", "ORIGIN", kServe, "origin that browsers may call from, or *; repeat for several", "", true,
       TextList(s.cors_origins)},
      {"strict", "", kServe, "answer 400 to request fields that are not known", "", false, Switch(s.strict)},
      {"drain-timeout", "SECONDS", kServe, "on SIGTERM, how long running requests may take to finish",
       absl::StrCat(s.drain_timeout.count() / 1000), false, Seconds(s.drain_timeout)},
      {"log-requests", "BOOL", kServe, "one log line a request, never the prompt", "true", false,
       Switch(s.log_requests)},
  };
  table.insert(table.end(), options.begin(), options.end());
}

void AddToolOptions(Config& c, std::vector<Option>& table) {
  GenerateConfig& g = c.generate;
  const std::vector<Option> options = {
      {"context", "N", kPlan, "also show the bytes of a sequence of N tokens", "", false,
       Number<int64_t>(c.plan.context, 1, int64_t{1} << 40)},
      {"kv-bytes", "1|2|4", kPlan, "bytes of a KV element", absl::StrCat(c.plan.kv_bytes), false,
       [&c](const std::vector<std::string>& values) -> absl::Status {
         std::string text;
         absl::Status status = OneOf(text, {"1", "2", "4"})(values);
         if (status.ok()) c.plan.kv_bytes = text[0] - '0';
         return status;
       }},
      {"memory", "SIZE", kPlan, "memory for KV", "what serve would take on this machine", false, Size(c.plan.memory)},
      {"prompt", "TEXT", kGenerate, "answer this and end; without it, a conversation", "", false, Text(g.prompt)},
      {"system", "TEXT", kGenerate, "system message", "", false, Text(g.system)},
      {"raw", "", kGenerate, "continue the prompt as it stands, without the chat template", "", false, Switch(g.raw)},
      {"max-tokens", "N", kGenerate, "longest answer", "what the context leaves", false,
       Number<int32_t>(g.max_tokens, 1, kMaxTokens)},
      {"temperature", "T", kGenerate, "0: always the likeliest token", "the model's", false,
       Number<double>(g.temperature, 0.0, 2.0)},
      {"top-p", "P", kGenerate, "sample from the likeliest tokens that hold this probability", "the model's", false,
       Number<double>(g.top_p, 1e-6, 1.0)},
      {"top-k", "K", kGenerate, "sample from the K likeliest tokens; 0: all", "the model's", false,
       Number<int32_t>(g.top_k, 0, 1 << 20)},
      {"seed", "N", kGenerate, "the same seed gives the same answer", "a new one each time", false,
       Number<uint64_t>(g.seed, 0)},
      {"runs", "N", kBench, "measurements of each figure; the median is shown", absl::StrCat(c.bench_runs), false,
       Number<int32_t>(c.bench_runs, 1, 1000)},
      {"ceilings", "BOOL", kBench, "measure the machine's read bandwidth and oneDNN's GEMM rate too", "true", false,
       Switch(c.bench_ceilings)},
      {"json", "", kPlan | kBench | kSimulate, "print JSON", "", false, Switch(c.json)},
      {"log-level", "LEVEL", kRunsModel, "debug, info, warning or error", c.log_level, false,
       OneOf(c.log_level, {"debug", "info", "warning", "error"})},
      {"log-format", "FORMAT", kRunsModel, "text or json", c.log_format, false, OneOf(c.log_format, {"text", "json"})},
  };
  table.insert(table.end(), options.begin(), options.end());
}

void AddSimulateOptions(Config& c, std::vector<Option>& table) {
  SimulateConfig& s = c.simulate;
  const auto number = [](double value) { return absl::StrFormat("%g", value); };
  const std::vector<Option> options = {
      {"workload", "FILE", kSimulate, "YAML or JSON file, or a preset: chat, long, mixed-day, overload, pressure", "",
       false, Text(s.workload)},
      {"gpu-memory", "SIZE", kSimulate, "memory of one GPU, e.g. 141GB", "", false, Size(s.gpu_memory)},
      {"gpu-memory-utilization", "SHARE", kSimulate, "share of it for weights and KV cache",
       absl::StrCat(s.gpu_memory_utilization), false, Number<double>(s.gpu_memory_utilization, 0.01, 1.0)},
      {"tensor-parallel-size", "N", kSimulate, "GPUs that share the model", "1", false,
       Number<int32_t>(s.tensor_parallel_size, 1, 1024)},
      {"kv-host-memory", "SIZE", kSimulate, "host memory of one GPU for preempted sequences; 0: none", "0", false,
       SizeOrNone(s.host_memory)},
      {"max-num-seqs", "N", kSimulate, "sequences that run at once", absl::StrCat(s.max_num_seqs), false,
       Number<int32_t>(s.max_num_seqs, 1, 65536)},
      {"max-num-batched-tokens", "N", kSimulate, "tokens of one step", absl::StrCat(s.max_num_batched_tokens), false,
       Number<int32_t>(s.max_num_batched_tokens, 1, 1 << 20)},
      {"output-reserve", "N", kSimulate, "answer tokens that memory is promised for at admission, at most",
       absl::StrCat(s.output_reserve), false, Number<int32_t>(s.output_reserve, 0, kMaxTokens)},
      {"no-depth-budget", "", kSimulate, "let a step's prefill tokens not shrink with their depth", "", false,
       Switch(s.no_depth_budget)},
      {"duration", "SECONDS", kSimulate, "virtual time", "the workload's", false,
       Number<double>(s.duration, 1e-3, 1e9)},
      {"load", "SHARE", kSimulate, "of the capacity, which is measured first", "the workload's", false,
       Number<double>(s.load, 1e-6, 1e6)},
      {"seed", "N", kSimulate, "the same seed gives the same figures", absl::StrCat(s.seed), false,
       Number<uint64_t>(s.seed, 0)},
      {"alone", "", kSimulate, "with --json: also each class without the others, at its own rate", "", false,
       Switch(s.alone)},
      {"bandwidth", "BYTES/S", kSimulate, "reads of one GPU's memory", number(s.bandwidth), false,
       Number<double>(s.bandwidth, 1e6, 1e18)},
      {"flops", "FLOP/S", kSimulate, "of one GPU's GEMMs; attention's rates scale with it", number(s.flops), false,
       Number<double>(s.flops, 1e6, 1e21)},
      {"step-overhead", "SECONDS", kSimulate, "of every step, whatever it holds", number(s.step_overhead), false,
       Number<double>(s.step_overhead, 0, 10)},
  };
  table.insert(table.end(), options.begin(), options.end());
}

}  // namespace

std::string Option::variable() const {
  return "HYSPARSE_" + absl::AsciiStrToUpper(absl::StrReplaceAll(name, {{"-", "_"}}));
}

std::vector<Option> OptionTable(Config& config) {
  std::vector<Option> table;
  AddServeOptions(config, table);
  AddModelOptions(config, table);
  AddToolOptions(config, table);
  AddSimulateOptions(config, table);
  return table;
}

absl::Status CheckCombinations(const Config& config) {
  const auto wrong = [](auto... parts) { return absl::InvalidArgumentError(absl::StrCat(parts...)); };
  const EngineConfig& engine = config.engine;
  const ServerOptions& server = config.server;
  if (engine.device == "cuda") return wrong("--device cuda: this build has the CPU backend only; use --device cpu");
  if (engine.tensor_parallel_size != 1) {
    return wrong("--tensor-parallel-size ", engine.tensor_parallel_size, ": one device only so far; use 1");
  }
  if (engine.max_num_batched_tokens < engine.max_num_seqs) {
    return wrong("--max-num-batched-tokens ", engine.max_num_batched_tokens, " is below --max-num-seqs ",
                 engine.max_num_seqs, ": a step must hold a token of every sequence; raise the one or lower the other");
  }
  const SimulateConfig& simulate = config.simulate;
  if (simulate.max_num_batched_tokens < simulate.max_num_seqs) {
    return wrong("--max-num-batched-tokens ", simulate.max_num_batched_tokens, " is below --max-num-seqs ",
                 simulate.max_num_seqs, "; raise the one or lower the other");
  }
  if (server.tls_certificate.empty() != server.tls_key.empty()) {
    return wrong("--ssl-certfile and --ssl-keyfile go together; give ",
                 server.tls_key.empty() ? "--ssl-keyfile" : "--ssl-certfile", " too");
  }
  if (config.command == kServe && config.grpc_port > 0 && config.grpc_port == server.port) {
    return wrong("--port and --grpc-port are both ", server.port, "; choose another --grpc-port, or --grpc-port off");
  }
  if (config.generate.raw && !config.generate.system.empty()) {
    return wrong("--system needs the chat template, which --raw leaves out; drop one of them");
  }
  return absl::OkStatus();
}

}  // namespace hysparse
