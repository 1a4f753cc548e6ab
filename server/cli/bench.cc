#include "server/cli/bench.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/result.h"
#include "kernels/cpu/ceilings.h"
#include "kernels/cpu/cpu_features.h"
#include "kernels/cpu/thread_pool.h"
#include "server/app.h"
#include "server/cli/bench_http.h"
#include "server/cli/bench_report.h"
#include "server/cli/bench_runs.h"
#include "server/cli/bench_work.h"
#include "server/cli/load_model.h"
#include "server/cli/logging.h"
#include "server/cli/progress_bar.h"

namespace hysparse {
namespace {

// What is run: `sequences` prompts of `prompt` tokens, each answered with `output`. An output of 1 measures the
// prefill.
struct Workload {
  const char* name;
  int32_t sequences, prompt, output;
};
constexpr Workload kPrefill[] = {{"512", 1, 512, 1}, {"2048", 1, 2048, 1}};
constexpr Workload kDecode[] = {
    {"1 sequence, short", 1, 16, 128}, {"1 sequence, 2k context", 1, 2048, 64}, {"16 sequences, short", 16, 16, 64}};
constexpr int32_t kBatch = 16;
constexpr const Workload& kSingle = kDecode[0];

// One value a round each.
struct Samples {
  std::vector<double> seconds, inter_token, forward;
};

// Everything that the measurements share.
struct Bench {
  const ServedModel& model;
  const TimedRunner::Totals& totals;
  uint16_t port;
  DType dtype;

  bool Fits(const Workload& w) const { return w.prompt + w.output <= model.max_model_len; }
  absl::StatusOr<BenchRun> Run(const Workload& w) const {
    return RunBatch(*model.engine, totals, model.spec.vocab, w.sequences, w.prompt, w.output);
  }
};

// The machine's, one value a round: beside every measurement, because machines that are shared change their pace.
struct Ceilings {
  std::vector<double> read_bytes_s;
  DType gemm_dtype = DType::kF32;
  std::vector<double> gemm_flop_s[std::size(kPrefill)];
};

// oneDNN's rate over the projections of a prefill, weighted by their FLOPs.
absl::StatusOr<double> GemmCeiling(cpu::ThreadPool& pool, DType dtype, const ModelSpec& spec, int32_t tokens) {
  double flops = 0, seconds = 0;
  for (const GemmWork& work : PrefillProjections(spec, tokens)) {
    HYSPARSE_ASSIGN_OR_RETURN(const double rate,
                              cpu::MeasureGemmRate(pool, dtype, static_cast<int>(work.rows), static_cast<int>(work.out),
                                                   static_cast<int>(work.in)));
    flops += work.flops();
    seconds += work.flops() / rate;
  }
  return flops / seconds;
}

absl::Status MeasureCeilings(const Bench& bench, int threads, Ceilings& out) {
  cpu::ThreadPool pool(threads > 0 ? threads : cpu::AvailableCores());
  HYSPARSE_ASSIGN_OR_RETURN(const double read, cpu::MeasureReadBandwidth(pool));
  out.read_bytes_s.push_back(read);
  for (size_t i = 0; i < std::size(kPrefill); ++i) {
    auto rate = GemmCeiling(pool, out.gemm_dtype, bench.model.spec, kPrefill[i].prompt);
    if (absl::IsUnimplemented(rate.status())) {
      out.gemm_dtype = DType::kF32;
      rate = GemmCeiling(pool, out.gemm_dtype, bench.model.spec, kPrefill[i].prompt);
    }
    if (!rate.ok()) return rate.status();
    out.gemm_flop_s[i].push_back(*rate);
  }
  return absl::OkStatus();
}

// The median speed, and the median of its shares of the ceiling that was measured beside it.
BenchFigure Figure(const char* name, double tokens, double work, const std::vector<double>& seconds,
                   const std::vector<double>& ceilings) {
  std::vector<double> shares;
  for (size_t i = 0; i < std::min(seconds.size(), ceilings.size()); ++i) {
    shares.push_back(work / seconds[i] / ceilings[i]);
  }
  const double median = Median(seconds);
  return {name, tokens / median, work / median, Median(shares)};
}

BenchFigure PrefillFigure(const Bench& bench, const Workload& w, const Samples& samples,
                          const std::vector<double>& ceilings) {
  return Figure(w.name, w.prompt, PrefillFlops(bench.model.spec, w.prompt), samples.seconds, ceilings);
}

// A step reads every weight once and each sequence's keys and values.
BenchFigure DecodeFigure(const Bench& bench, const Workload& w, const Samples& samples,
                         const std::vector<double>& ceilings) {
  const int64_t kv = DecodeKvElements(bench.model.spec, w.prompt + w.output / 2) * w.sequences;
  const double bytes =
      static_cast<double>(DecodeParameters(bench.model.spec) + kv) * static_cast<double>(SizeOf(bench.dtype));
  return Figure(w.name, w.sequences, bytes, samples.inter_token, w.sequences == 1 ? ceilings : std::vector<double>{});
}

struct Measurements {
  std::vector<Samples> prefill{std::size(kPrefill)}, decode{std::size(kDecode)};
  std::vector<double> engine_overhead, http_overhead;  // of a token, beyond the forward pass of the same time
  Ceilings ceilings;
};

absl::Status MeasureWorkload(const Bench& bench, const Workload& w, Samples& samples) {
  if (!bench.Fits(w)) return absl::OkStatus();
  HYSPARSE_ASSIGN_OR_RETURN(const BenchRun run, bench.Run(w));
  samples.seconds.push_back(run.first_token_s);
  samples.inter_token.push_back(run.inter_token_s);
  samples.forward.push_back(run.forward_per_step_s);
  return absl::OkStatus();
}

// One of each, so that a disturbance of the machine falls on all alike.
absl::Status MeasureRound(const Bench& bench, const Config& config, Measurements& out) {
  if (config.bench_ceilings) HYSPARSE_RETURN_IF_ERROR(MeasureCeilings(bench, config.engine.threads, out.ceilings));
  for (size_t i = 0; i < std::size(kPrefill); ++i) {
    HYSPARSE_RETURN_IF_ERROR(MeasureWorkload(bench, kPrefill[i], out.prefill[i]));
  }
  for (size_t i = 0; i < std::size(kDecode); ++i) {
    HYSPARSE_RETURN_IF_ERROR(MeasureWorkload(bench, kDecode[i], out.decode[i]));
  }
  const std::vector<int32_t> prompt = RandomPrompt(bench.model.spec.vocab, kSingle.prompt, 0);
  HYSPARSE_ASSIGN_OR_RETURN(const double http,
                            HttpOverheadSeconds(bench.port, bench.model.id(), prompt, kSingle.output, bench.totals));
  const Samples& single = out.decode[0];
  out.engine_overhead.push_back(single.inter_token.back() - single.forward.back());
  out.http_overhead.push_back(http);
  return absl::OkStatus();
}

BenchReport MakeReport(const Bench& bench, const Measurements& m) {
  BenchReport report;
  report.model = bench.model.id();
  report.dtype = bench.dtype;
  report.read_bytes_s = Median(m.ceilings.read_bytes_s);
  report.gemm_flop_s = Median(m.ceilings.gemm_flop_s[std::size(kPrefill) - 1]);
  report.gemm_dtype = m.ceilings.gemm_dtype;
  for (size_t i = 0; i < std::size(kPrefill); ++i) {
    if (m.prefill[i].seconds.empty()) continue;
    report.prefill.push_back(PrefillFigure(bench, kPrefill[i], m.prefill[i], m.ceilings.gemm_flop_s[i]));
  }
  for (size_t i = 0; i < std::size(kDecode); ++i) {
    if (m.decode[i].inter_token.empty()) continue;
    report.decode.push_back(DecodeFigure(bench, kDecode[i], m.decode[i], m.ceilings.read_bytes_s));
    if (kDecode[i].sequences == kBatch)
      report.batch_gain = report.decode.back().tokens_s / report.decode.front().tokens_s;
  }
  report.engine_overhead_s = Median(m.engine_overhead);
  report.http_overhead_s = Median(m.http_overhead);
  return report;
}

}  // namespace

absl::Status RunBench(const Config& config) {
  SetUpLogging(config.log_level == "info" ? "warning" : config.log_level, config.log_format);
  ServerOptions options;
  options.port = 0;
  options.log_requests = false;
  App app(options);
  HYSPARSE_RETURN_IF_ERROR(app.Listen());

  auto totals = std::make_shared<TimedRunner::Totals>();
  LoadHooks hooks;
  hooks.observer = app.observer();
  hooks.wrap_runner = [&](std::unique_ptr<StepRunner> inner) {
    return std::make_unique<TimedRunner>(std::move(inner), totals);
  };
  LoadedModel loaded;
  {
    ProgressBar bar("loading " + config.model);
    hooks.progress = [&](double fraction) { bar.Show(fraction); };
    HYSPARSE_ASSIGN_OR_RETURN(loaded, LoadModel(config, hooks));
  }
  const DType dtype = loaded.dtype;
  if (loaded.model->max_model_len < kSingle.prompt + kSingle.output) {
    return absl::InvalidArgumentError(absl::StrCat("bench needs sequences of ", kSingle.prompt + kSingle.output,
                                                   " tokens; the limit here is ", loaded.model->max_model_len));
  }
  app.AttachModel(std::move(loaded.model));
  const auto model = app.model();
  const Bench bench{.model = *model, .totals = *totals, .port = app.port(), .dtype = dtype};

  Measurements warm_up, measurements;
  warm_up.ceilings.gemm_dtype = measurements.ceilings.gemm_dtype = dtype;
  {
    ProgressBar bar("measuring");
    bar.Show(0);
    HYSPARSE_RETURN_IF_ERROR(MeasureRound(bench, config, warm_up));
    for (int run = 0; run < config.bench_runs; ++run) {
      bar.Show((run + 1.0) / (config.bench_runs + 1.0));
      HYSPARSE_RETURN_IF_ERROR(MeasureRound(bench, config, measurements));
    }
  }
  BenchReport report = MakeReport(bench, measurements);
  report.runs = config.bench_runs;
  report.startup_s = loaded.seconds;
  report.device = loaded.device;
  const std::string text = config.json ? BenchAsJson(report) : BenchAsText(report);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return absl::OkStatus();
}

}  // namespace hysparse
