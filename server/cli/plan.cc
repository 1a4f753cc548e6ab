#include "server/cli/plan.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "engine/base/result.h"
#include "engine/kv/residency.h"
#include "server/cli/capacity.h"
#include "server/cli/format.h"
#include "server/cli/memory.h"
#include "server/cli/model_folder.h"
#include "server/cli/option_values.h"

namespace hysparse {
namespace {

constexpr int64_t kContexts[] = {8192, 32768, 131072, 1048576};

// Bytes one more token costs: in each class, and with full attention. The window class stops growing at the window.
struct TokenBytes {
  int64_t global = 0, window = 0, full_attention = 0;
};

TokenBytes PerToken(const PlanInput& in) {
  const KvBytes one = ResidentBytes(in.spec, 1, in.element_bytes);
  return {one.global, one.window, FullAttentionBytes(in.spec, 1, in.element_bytes)};
}

std::string ClassesAsText(const PlanInput& in, const KvLayout& layout) {
  const TokenBytes bytes = PerToken(in);
  std::vector<std::vector<std::string>> rows = {{"class", "layers", "bytes a token", "page", "keeps"}};
  if (layout.global.layers) {
    rows.push_back({"global", absl::StrCat(layout.global.layers), GroupDigits(bytes.global),
                    absl::StrCat(layout.global.page_tokens, " tokens"), "every token"});
  }
  if (layout.window.layers) {
    rows.push_back({"window", absl::StrCat(layout.window.layers), GroupDigits(bytes.window),
                    absl::StrCat(layout.window.page_tokens, " tokens"),
                    absl::StrCat("the last ", layout.window.window)});
  }
  if (layout.window.layers) {
    rows.push_back({"all full attention", absl::StrCat(in.spec.layers.size()), GroupDigits(bytes.full_attention), "",
                    "every token"});
  }
  return FormatTable(rows);
}

std::string ContextAsText(const PlanInput& in) {
  const KvBytes exact = ResidentBytes(in.spec, in.context, in.element_bytes);
  const KvBytes pages = AllocatedBytes(in.spec, in.element_bytes, in.context);
  const int64_t full = FullAttentionBytes(in.spec, in.context, in.element_bytes);
  const auto row = [](const char* name, int64_t formula, int64_t allocated) {
    return std::vector<std::string>{name, FormatDecimal(static_cast<double>(formula)),
                                    FormatDecimal(static_cast<double>(allocated)), GroupDigits(allocated)};
  };
  std::vector<std::vector<std::string>> rows = {{"", "formula", "in whole pages", "bytes"}};
  rows.push_back(row("global", exact.global, pages.global));
  rows.push_back(row("window", exact.window, pages.window));
  rows.push_back(row("total", exact.total(), pages.total()));
  if (pages.window) {
    rows.push_back({"all full attention", FormatDecimal(static_cast<double>(full)), "",
                    Times(static_cast<double>(full) / static_cast<double>(exact.total())) + " as many"});
  }
  return absl::StrCat("\nA sequence of ", GroupDigits(in.context), " tokens keeps\n", FormatTable(rows));
}

std::string SessionsAsText(const PlanInput& in) {
  std::vector<std::vector<std::string>> rows = {{"context", "sessions", "all full attention", "ratio"}};
  bool beyond = false;
  for (const int64_t context : kContexts) {
    const Sessions sessions = SessionsThatFit(in.spec, in.element_bytes, in.memory, context);
    const bool over = context > in.spec.max_context;
    beyond = beyond || over;
    rows.push_back({absl::StrCat(GroupDigits(context), over ? " *" : ""), GroupDigits(sessions.fit),
                    GroupDigits(sessions.full_attention),
                    sessions.full_attention
                        ? Times(static_cast<double>(sessions.fit) / static_cast<double>(sessions.full_attention))
                        : "-"});
  }
  std::string text =
      absl::StrCat("\nSessions that fit in ", FormatSize(in.memory), " of KV memory",
                   in.memory_is_given ? "" : " (what serve would take here; --memory SIZE asks for another)", "\n",
                   FormatTable(rows));
  if (beyond)
    absl::StrAppend(&text, "  * beyond this model's limit of ", GroupDigits(in.spec.max_context), " tokens\n");
  return text;
}

nlohmann::ordered_json ClassAsJson(const KvClassLayout& layout, int64_t token_bytes) {
  return {{"layers", layout.layers},
          {"bytes_per_token", token_bytes},
          {"page_tokens", layout.page_tokens},
          {"window_tokens", layout.window}};
}

nlohmann::ordered_json BytesAsJson(const KvBytes& bytes) {
  return {{"global", bytes.global}, {"window", bytes.window}, {"total", bytes.total()}};
}

}  // namespace

std::string PlanAsText(const PlanInput& in) {
  const KvLayout layout = MakeKvLayout(in.spec, DType::kBF16);
  std::string text = absl::StrCat(in.name, ": ", in.spec.architecture, ", ", LayersByKind(in.spec), "\n",
                                  HeadsAndSizes(in.spec), ", context ", GroupDigits(in.spec.max_context), "\n");
  absl::StrAppend(&text, "\nKV cache at ", in.element_bytes, in.element_bytes == 1 ? " byte" : " bytes",
                  " an element\n", ClassesAsText(in, layout));
  if (in.context) text += ContextAsText(in);
  return text + SessionsAsText(in);
}

std::string PlanAsJson(const PlanInput& in) {
  const KvLayout layout = MakeKvLayout(in.spec, DType::kBF16);
  const TokenBytes bytes = PerToken(in);
  nlohmann::ordered_json out = {{"model", in.name},
                                {"architecture", in.spec.architecture},
                                {"max_context", in.spec.max_context},
                                {"layers",
                                 {{"full", in.spec.CountLayers(LayerKind::kFull)},
                                  {"swa", in.spec.CountLayers(LayerKind::kSwa)},
                                  {"sparse", in.spec.CountLayers(LayerKind::kSparse)}}},
                                {"kv",
                                 {{"element_bytes", in.element_bytes},
                                  {"global", ClassAsJson(layout.global, bytes.global)},
                                  {"window", ClassAsJson(layout.window, bytes.window)},
                                  {"full_attention_bytes_per_token", bytes.full_attention}}}};
  if (in.context) {
    out["context"] = {{"tokens", in.context},
                      {"formula_bytes", BytesAsJson(ResidentBytes(in.spec, in.context, in.element_bytes))},
                      {"allocated_bytes", BytesAsJson(AllocatedBytes(in.spec, in.element_bytes, in.context))},
                      {"full_attention_bytes", FullAttentionBytes(in.spec, in.context, in.element_bytes)}};
  }
  out["memory_bytes"] = in.memory;
  out["sessions"] = nlohmann::ordered_json::array();
  for (const int64_t context : kContexts) {
    const Sessions sessions = SessionsThatFit(in.spec, in.element_bytes, in.memory, context);
    out["sessions"].push_back(
        {{"context", context}, {"fit", sessions.fit}, {"full_attention", sessions.full_attention}});
  }
  return out.dump(2) + "\n";
}

absl::Status RunPlan(const Config& config) {
  HYSPARSE_ASSIGN_OR_RETURN(const ModelFolder folder, FindModel(config.model));
  PlanInput input;
  input.name = folder.name;
  HYSPARSE_ASSIGN_OR_RETURN(input.spec, ReadModelSpec(folder.path));
  input.element_bytes = config.plan.kv_bytes;
  input.context = config.plan.context;
  input.memory = config.plan.memory;
  if (input.memory == 0) {
    input.memory_is_given = false;
    input.memory = KvMemoryBudget(config.engine, WeightFileBytes(folder.path));
  }
  const std::string text = config.json ? PlanAsJson(input) : PlanAsText(input);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return absl::OkStatus();
}

}  // namespace hysparse
