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
#include "engine/run/rank_thread.h"
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
class LocalRank : public StepRunner {
 public:
  absl::StatusOr<StepResult> Run(StepPlan& plan) override { return worker->Run(plan); }

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

// "; host arena 2.0 GiB", "; nothing can be spilled".
std::string HostText(const ArenaLayout& host) {
  return host.slabs > 0 ? absl::StrCat("; host arena ", FormatSize(host.bytes())) : "; no host arena";
}

// "prefix cache of 64-token pages, behind which up to 5,589 tokens are run again where no window is kept".
std::string PrefixText(const ModelSpec& spec, const KvLayout& layout, bool on) {
  if (!on || layout.global.layers == 0) return "prefix cache off";
  const std::string text = absl::StrCat("prefix cache of ", layout.global.page_tokens, "-token pages");
  if (layout.window.layers == 0) return text;
  return absl::StrCat(text, ", behind which up to ", GroupDigits(RebuildTokens(spec)),
                      " tokens are run again where no window is kept");
}

void Summarise(const LocalRank& rank, const ServedModel& model, const KvLayout& layout, const KvArenas& arenas,
               const EngineConfig& engine, LoadedModel& out) {
  const ArenaLayout& arena = arenas.device;
  // Of one endless sequence. A model without full layers keeps no more than its windows, however long the text.
  const int64_t slabs = arena.slabs - (layout.window.layers > 0 && layout.global.layers > 0 ? 1 : 0);
  const int64_t tokens = layout.global.layers ? slabs * arena.global.pages_per_slab * layout.global.page_tokens
                                              : int64_t{arena.page_ids(KvClass::kWindow)} * layout.window.page_tokens;
  out.summary = {
      absl::StrCat("model ", model.id(), ": ", rank.spec.architecture, ", ", LayersByKind(rank.spec), "; ",
                   HeadsAndSizes(rank.spec), ", vocabulary ", GroupDigits(rank.spec.vocab)),
      absl::StrCat("device ", rank.backend->Describe(), "; ", Name(layout.dtype), "; ",
                   GroupDigits(rank.weights.parameters), " parameters in ", FormatSize(WeightBytes(rank))),
      absl::StrCat("KV arena ", FormatSize(arena.bytes()), " in ", GroupDigits(arena.slabs), " slabs of ",
                   FormatSize(arena.slab_bytes), HostText(arenas.host)),
      PrefixText(rank.spec, layout, engine.enable_prefix_caching),
      KvCacheLine(rank.spec, static_cast<int64_t>(SizeOf(layout.dtype)), arena.bytes(), tokens, model.max_model_len),
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

absl::StatusOr<KvArenas> ArenasFor(const EngineConfig& engine, const KvLayout& layout, int64_t weight_bytes,
                                   int64_t available, int32_t model_limit) {
  ArenaRequest request;
  request.memory = KvMemoryBudget(engine, weight_bytes, available);
  request.host_memory = engine.kv_host_memory;
  if (engine.kv_host_memory < 0) {  // a quarter of the cache goes there, if that is worth anything
    request.host_memory = request.memory / 4;
    if (!MakeArenaLayout(layout, request.host_memory).ok()) request.host_memory = 0;
    if (engine.kv_cache_memory == 0) request.memory -= request.host_memory;  // both are shares of the same RAM
  }
  request.max_model_len = engine.max_model_len;
  request.model_limit = model_limit;
  return MakeArenas(layout, request);
}

// The rank's thread over its worker over an arena of its own, and the engine over the rank.
absl::Status StartEngine(const Config& config, const LoadHooks& hooks, int64_t available,
                         std::unique_ptr<LocalRank> rank, LoadedModel& out) {
  ServedModel& model = *out.model;
  const EngineConfig& engine = config.engine;
  EngineOptions options;
  options.kv_layout = MakeKvLayout(rank->spec, out.dtype);
  HYSPARSE_ASSIGN_OR_RETURN(const KvArenas arenas, ArenasFor(engine, options.kv_layout, WeightBytes(*rank), available,
                                                             rank->spec.max_context));
  RunnerOptions runner_options;
  runner_options.limits = {engine.max_num_batched_tokens, engine.max_num_seqs, arenas.max_model_len};
  runner_options.arena = options.arena = arenas.device;
  runner_options.host_arena = options.host_arena = arenas.host;
  HYSPARSE_ASSIGN_OR_RETURN(auto runner, ModelRunner::Make(rank->spec, rank->weights, *rank->backend, runner_options));
  HYSPARSE_ASSIGN_OR_RETURN(rank->worker, Worker::Make(std::move(runner), rank->spec.vocab));

  model.max_model_len = arenas.max_model_len;
  model.kv_layout = options.kv_layout;
  options.max_num_seqs = engine.max_num_seqs;
  options.max_num_batched_tokens = engine.max_num_batched_tokens;
  options.max_model_len = arenas.max_model_len;
  options.max_waiting = engine.max_waiting;
  options.max_waiting_tokens = engine.max_waiting_tokens;
  options.output_reserve = engine.output_reserve;
  options.prefix_caching = engine.enable_prefix_caching;
  out.parameters = rank->weights.parameters;
  out.device = rank->backend->Describe();
  Summarise(*rank, model, options.kv_layout, arenas, engine, out);
  std::unique_ptr<StepRunner> steps = std::move(rank);
  if (hooks.wrap_runner) steps = hooks.wrap_runner(std::move(steps));
  model.engine =
      std::make_unique<Engine>(options, model.spec, std::make_unique<RankThread>(std::move(steps)), hooks.observer);
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
