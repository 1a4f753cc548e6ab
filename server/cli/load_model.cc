#include "server/cli/load_model.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/base/result.h"
#include "engine/kv/residency.h"
#include "engine/model/checkpoint.h"
#include "engine/model/weights.h"
#include "engine/run/model_runner.h"
#include "engine/run/worker.h"
#include "kernels/ops.h"
#include "server/chat/chat_template.h"
#include "server/cli/arena.h"
#include "server/cli/capacity.h"
#include "server/cli/format.h"
#include "server/cli/memory.h"
#include "server/cli/model_folder.h"
#include "server/cli/option_values.h"

namespace hysparse {
namespace {

constexpr uint64_t kDummySeed = 1;

// The one local rank with everything that its worker refers to.
class LocalRank : public Executor {
 public:
  absl::StatusOr<StepResult> Execute(const StepPlan& plan) override { return worker->Execute(plan); }

  ModelSpec spec;
  std::unique_ptr<Backend> backend;
  Weights weights;
  std::unique_ptr<Worker> worker;
};

DType ComputeType(const std::string& dtype, DType checkpoint) {
  if (dtype == "float32") return DType::kF32;
  if (dtype == "bfloat16") return DType::kBF16;
  return checkpoint == DType::kF32 ? DType::kF32 : DType::kBF16;
}

// The tokenizer's own end token (tokenizer_config.json) is a stop id beside generation_config's.
absl::Status AddTokenizerStop(const std::string& folder, const Tokenizer& tokenizer, ModelSpec& spec) {
  const std::string path = folder + "/tokenizer_config.json";
  const absl::StatusOr<std::string> text = ReadFile(path);
  if (absl::IsNotFound(text.status())) return absl::OkStatus();
  HYSPARSE_RETURN_IF_ERROR(text.status());
  const nlohmann::json config = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) return absl::InvalidArgumentError(path + ": is not a JSON object");
  nlohmann::json eos = config.value("eos_token", nlohmann::json());
  if (eos.is_object()) eos = eos.value("content", nlohmann::json());
  if (!eos.is_string()) return absl::OkStatus();
  const int32_t id = tokenizer.TokenId(eos.get<std::string>());
  const bool known = std::find(spec.stop_ids.begin(), spec.stop_ids.end(), id) != spec.stop_ids.end();
  if (id >= 0 && id < spec.vocab && !known) spec.stop_ids.push_back(id);
  return absl::OkStatus();
}

absl::Status LoadText(const std::string& folder, ServedModel& model) {
  HYSPARSE_ASSIGN_OR_RETURN(model.tokenizer, Tokenizer::Load(folder));
  auto chat_template = ChatTemplate::Load(folder);
  if (chat_template.ok()) {
    model.chat_template = *std::move(chat_template);
  } else if (!absl::IsNotFound(chat_template.status())) {
    return chat_template.status();
  }
  return AddTokenizerStop(folder, *model.tokenizer, model.spec);
}

absl::Status LoadRankWeights(const Config& config, const std::string& folder, const LoadHooks& hooks, LocalRank& rank) {
  if (config.engine.load_format == "dummy") {
    HYSPARSE_ASSIGN_OR_RETURN(rank.weights, MakeRandomWeights(rank.spec, kDummySeed, *rank.backend, hooks.progress));
    return absl::OkStatus();
  }
  HYSPARSE_ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(folder));
  HYSPARSE_ASSIGN_OR_RETURN(rank.weights, LoadWeights(rank.spec, checkpoint, *rank.backend, hooks.progress));
  return absl::OkStatus();
}

int64_t WeightBytes(const LocalRank& rank) {
  return rank.weights.parameters * static_cast<int64_t>(SizeOf(rank.backend->compute_dtype())) +
         int64_t{rank.spec.vocab} * rank.spec.hidden * static_cast<int64_t>(SizeOf(rank.weights.embedding_dtype));
}

// ", global 7,178 pages of 64 tokens (9.9 GiB)"; nothing for a class without layers.
std::string ClassText(const char* name, const KvClassLayout& kv_class, int64_t pages) {
  if (kv_class.layers == 0) return "";
  return absl::StrCat(", ", name, " ", GroupDigits(pages), " pages of ", kv_class.page_tokens, " tokens (",
                      FormatSize(pages * kv_class.page_bytes()), ")");
}

void Summarise(const LocalRank& rank, const ServedModel& model, const KvLayout& layout, const Arena& arena,
               const EngineConfig& engine, LoadedModel& out) {
  const int64_t global = arena.global_pages * layout.global.page_bytes();
  const int64_t window = arena.window_pages * layout.window.page_bytes();
  const int64_t element = static_cast<int64_t>(SizeOf(layout.dtype));
  // A model without full layers keeps no more than its windows, however long the text.
  const int64_t tokens = layout.global.layers ? arena.global_pages * layout.global.page_tokens
                                              : arena.window_pages * layout.window.page_tokens;
  out.summary = {
      absl::StrCat("model ", model.id(), ": ", rank.spec.architecture, ", ", LayersByKind(rank.spec), "; ",
                   HeadsAndSizes(rank.spec), ", vocabulary ", GroupDigits(rank.spec.vocab)),
      absl::StrCat("device ", rank.backend->Describe(), "; ", Name(layout.dtype), "; ",
                   GroupDigits(rank.weights.parameters), " parameters in ", FormatSize(WeightBytes(rank))),
      absl::StrCat("KV arena ", FormatSize(global + window), ClassText("global", layout.global, arena.global_pages),
                   ClassText("window", layout.window, arena.window_pages)),
      KvCacheLine(rank.spec, element, global + window, tokens, model.max_model_len),
      absl::StrCat("steps of up to ", GroupDigits(engine.max_num_seqs), " sequences and ",
                   GroupDigits(engine.max_num_batched_tokens), " tokens; longest sequence ",
                   GroupDigits(model.max_model_len), " tokens"),
  };
  if (!rank.weights.unused.empty()) {
    out.warnings.push_back(
        absl::StrCat("unused tensors in the checkpoint: ", absl::StrJoin(rank.weights.unused, ", ")));
  }
  if (!model.chat_template) out.warnings.push_back("the model has no chat template: /v1/chat/completions will refuse");
  if (engine.max_model_len == 0 && model.max_model_len < rank.spec.max_context) {
    out.warnings.push_back(absl::StrCat("sequences are limited to ", GroupDigits(model.max_model_len),
                                        " of the model's ", GroupDigits(rank.spec.max_context),
                                        " tokens by the KV cache; --kv-cache-memory makes room for more"));
  }
}

// The worker over an arena of its own, and the engine over the worker.
absl::Status StartEngine(const Config& config, const LoadHooks& hooks, int64_t available,
                         std::unique_ptr<LocalRank> rank, LoadedModel& out) {
  ServedModel& model = *out.model;
  const EngineConfig& engine = config.engine;
  const KvLayout layout = MakeKvLayout(rank->spec, out.dtype);
  ArenaRequest request{.memory = KvMemoryBudget(engine, WeightBytes(*rank), available),
                       .max_num_seqs = engine.max_num_seqs,
                       .max_num_batched_tokens = engine.max_num_batched_tokens,
                       .max_model_len = engine.max_model_len,
                       .model_limit = rank->spec.max_context};
  HYSPARSE_ASSIGN_OR_RETURN(const Arena arena, DivideArena(layout, request));
  RunnerOptions runner_options;
  runner_options.limits = {engine.max_num_batched_tokens, engine.max_num_seqs, arena.max_model_len};
  runner_options.global_pages = arena.global_pages;
  runner_options.window_pages = arena.window_pages;
  HYSPARSE_ASSIGN_OR_RETURN(auto runner, ModelRunner::Make(rank->spec, rank->weights, *rank->backend, runner_options));
  HYSPARSE_ASSIGN_OR_RETURN(rank->worker, Worker::Make(std::move(runner), rank->spec.vocab));

  model.max_model_len = arena.max_model_len;
  model.global_page_tokens = layout.global.page_tokens;
  model.global_page_bytes = layout.global.page_bytes();
  model.window_page_bytes = layout.window.page_bytes();
  EngineOptions options;
  options.max_num_seqs = engine.max_num_seqs;
  options.max_num_batched_tokens = engine.max_num_batched_tokens;
  options.max_model_len = arena.max_model_len;
  options.global_pages = arena.global_pages;
  options.window_pages = arena.window_pages;
  options.global_page_tokens = layout.global.page_tokens;
  options.window_page_tokens = layout.window.page_tokens;
  out.parameters = rank->weights.parameters;
  out.device = rank->backend->Describe();
  Summarise(*rank, model, layout, arena, engine, out);
  std::unique_ptr<Executor> executor = std::move(rank);
  if (hooks.wrap_executor) executor = hooks.wrap_executor(std::move(executor));
  model.engine = std::make_unique<Engine>(options, model.spec, std::move(executor), hooks.observer);
  model.engine->Start();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LoadedModel> LoadModel(const Config& config, const LoadHooks& hooks) {
  const Clock::time_point start = Clock::now();
  const int64_t available = AvailableMemory();  // before the weights are there
  HYSPARSE_ASSIGN_OR_RETURN(const ModelFolder folder, FindModel(config.model));
  LoadedModel out;
  out.model = std::make_unique<ServedModel>();
  ServedModel& model = *out.model;
  model.names = config.served_model_names.empty() ? std::vector<std::string>{folder.name} : config.served_model_names;
  model.created =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  HYSPARSE_ASSIGN_OR_RETURN(model.spec, ReadModelSpec(folder.path));
  HYSPARSE_RETURN_IF_ERROR(LoadText(folder.path, model));

  auto rank = std::make_unique<LocalRank>();
  rank->spec = model.spec;
  out.dtype = ComputeType(config.engine.dtype, model.spec.checkpoint_dtype);
  HYSPARSE_ASSIGN_OR_RETURN(rank->backend,
                            MakeCpuBackend({.compute_dtype = out.dtype, .threads = config.engine.threads}));
  HYSPARSE_RETURN_IF_ERROR(LoadRankWeights(config, folder.path, hooks, *rank));
  HYSPARSE_RETURN_IF_ERROR(StartEngine(config, hooks, available, std::move(rank), out));
  out.seconds = SecondsSince(start);
  return out;
}

}  // namespace hysparse
