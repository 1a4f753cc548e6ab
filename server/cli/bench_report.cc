#include "server/cli/bench_report.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/cli/format.h"

namespace hysparse {
namespace {

std::vector<std::string> Row(const BenchFigure& figure, double unit) {
  return {figure.name, FormatNumber(figure.tokens_s), FormatNumber(figure.achieved / unit),
          figure.share > 0 ? absl::StrFormat("%.0f %%", 100 * figure.share) : "-"};
}

nlohmann::ordered_json Json(const BenchFigure& figure, const char* unit) {
  nlohmann::ordered_json out = {{"tokens_per_s", figure.tokens_s}, {unit, figure.achieved}};
  if (figure.share > 0) out["fraction_of_ceiling"] = figure.share;
  return out;
}

}  // namespace

std::string BenchAsText(const BenchReport& report) {
  std::string text =
      absl::StrFormat("%s, %s, %s; medians of %d runs\n", report.model, report.device, Name(report.dtype), report.runs);
  if (report.gemm_flop_s > 0) {
    absl::StrAppendFormat(&text, "ceilings: memory read %s GB/s; oneDNN %s GEMM at these shapes %s GFLOP/s\n",
                          FormatNumber(report.read_bytes_s / 1e9), Name(report.gemm_dtype),
                          FormatNumber(report.gemm_flop_s / 1e9));
  }
  text += "\n";
  std::vector<std::vector<std::string>> rows = {{"", "tokens/s", "GFLOP/s", "of the GEMM rate"}};
  for (const BenchFigure& figure : report.prefill) rows.push_back(Row(figure, 1e9));
  text += FormatTable(rows) + "\n";
  rows = {{"", "tokens/s", "GB/s", "of the read rate"}};
  for (const BenchFigure& figure : report.decode) rows.push_back(Row(figure, 1e9));
  text += FormatTable(rows) + "\n";
  if (report.batch_gain > 0)
    text += absl::StrFormat("  16 decodes together: %.1f× the tokens/s of one\n", report.batch_gain);
  text += absl::StrFormat("  beyond the forward pass, a token: engine %.0f µs; engine and HTTP %.0f µs\n",
                          report.engine_overhead_s * 1e6, report.http_overhead_s * 1e6);
  return text + absl::StrFormat("  start-up %.2f s\n", report.startup_s);
}

std::string BenchAsJson(const BenchReport& report) {
  nlohmann::ordered_json out = {
      {"model", report.model}, {"device", report.device}, {"dtype", Name(report.dtype)}, {"runs", report.runs}};
  if (report.gemm_flop_s > 0) {
    out["ceilings"] = {{"read_bytes_per_s", report.read_bytes_s},
                       {"gemm_flop_per_s", report.gemm_flop_s},
                       {"gemm_dtype", Name(report.gemm_dtype)}};
  }
  out.update({{"prefill", nlohmann::ordered_json::object()},
              {"decode", nlohmann::ordered_json::object()},
              {"batch_16_gain", report.batch_gain},
              {"engine_overhead_s_per_token", report.engine_overhead_s},
              {"engine_and_http_overhead_s_per_token", report.http_overhead_s},
              {"startup_s", report.startup_s}});
  for (const BenchFigure& figure : report.prefill) out["prefill"][figure.name] = Json(figure, "flop_per_s");
  for (const BenchFigure& figure : report.decode) out["decode"][figure.name] = Json(figure, "bytes_per_s");
  return out.dump(2) + "\n";
}

}  // namespace hysparse
