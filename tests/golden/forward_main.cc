// hysparse_forward JOBS.json: runs the engine's forward pass on given token ids and writes, for every job, the logprobs
// at every position and the choices made. The bridge between the engine and the Python suites of this folder.
//
// JOBS.json is a list of
//   {"folder": DIR, "dtype": "float32", "out": PREFIX,        PREFIX.f32: [T, V] logprobs; PREFIX.json: the choices
//    "tokens": [ids], "chunk": 64,                            tokens of the sequence a step takes; 0: all
//    "others": [{"tokens": [ids], "chunk": 7}, …],            sequences that share the steps; their results are dropped
//    "observed": true,                                        PREFIX.f32: [T - 1] the logprob of each next token only
//    "shuffle": 1}                                            seed of the order in which pages are handed out; 0:
//    ascending
#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "absl/strings/str_cat.h"
#include "engine/base/file.h"
#include "engine/base/result.h"
#include "engine/model/checkpoint.h"
#include "engine/model/weights.h"
#include "engine/run/model_runner.h"

namespace hysparse {
namespace {

using nlohmann::json;

constexpr int32_t kMaxTokens = 2048, kMaxSequences = 8, kMaxContext = 4096;

struct Model {
  ModelSpec spec;
  std::unique_ptr<Backend> backend;
  Weights weights;
  std::unique_ptr<ModelRunner> runner;
};

absl::StatusOr<std::unique_ptr<Model>> Load(const std::string& folder, DType dtype) {
  auto model = std::make_unique<Model>();
  HYSPARSE_ASSIGN_OR_RETURN(model->spec, ReadModelSpec(folder));
  HYSPARSE_ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(folder));
  HYSPARSE_ASSIGN_OR_RETURN(model->backend, MakeCpuBackend({.compute_dtype = dtype, .threads = 0}));
  HYSPARSE_ASSIGN_OR_RETURN(model->weights, LoadWeights(model->spec, checkpoint, *model->backend));
  const KvLayout layout = MakeKvLayout(model->spec, dtype);
  RunnerOptions options;
  options.limits = {kMaxTokens, kMaxSequences, kMaxContext};
  // Slabs for the sequences' pages of each class, with some to spare for what slabs waste.
  const int64_t pages = kMaxSequences * (layout.global.MaxPages(kMaxContext, kMaxTokens) * layout.global.page_bytes() +
                                         layout.window.MaxPages(kMaxContext, kMaxTokens) * layout.window.page_bytes());
  HYSPARSE_ASSIGN_OR_RETURN(options.arena, MakeArenaLayout(layout, pages + pages / 8));
  HYSPARSE_ASSIGN_OR_RETURN(model->runner, ModelRunner::Make(model->spec, model->weights, *model->backend, options));
  return model;
}

// Free pages of one class, in its slabs. A shuffled pool hands freed pages out again at once, so that stale contents
// would show.
class FreePages {
 public:
  FreePages(int64_t first, int64_t end, uint32_t seed) {
    for (int64_t p = end; p-- > first;) free_.push_back(static_cast<int32_t>(p));
    if (seed != 0) std::shuffle(free_.begin(), free_.end(), std::mt19937(seed));
  }
  int32_t Take() {
    const int32_t page = free_.back();
    free_.pop_back();
    return page;
  }
  void Put(int32_t page) { free_.push_back(page); }

 private:
  std::vector<int32_t> free_;
};

struct Sequence {
  std::vector<int32_t> tokens;
  int32_t chunk = 0, done = 0;
  int32_t global_pages = 0;
  std::vector<int32_t> window_pages;
  int32_t window_first = 0;
};

template <typename T>
PlanRange Append(std::vector<int32_t>& to, T begin, T end) {
  const auto first = static_cast<int32_t>(to.size());
  to.insert(to.end(), begin, end);
  return {first, static_cast<int32_t>(to.size())};
}

// Plans the next chunk of a sequence, with pages for it; window pages that it no longer reads are given back first.
void AddChunk(Sequence& sequence, int32_t id, const KvLayout& layout, FreePages& global, FreePages& window,
              StepPlan& plan) {
  const auto left = static_cast<int32_t>(sequence.tokens.size()) - sequence.done;
  const int32_t count = sequence.chunk > 0 ? std::min(left, sequence.chunk) : left;
  PlannedChunk chunk;
  chunk.sequence = chunk.slot = id;
  chunk.position = sequence.done;
  chunk.tokens =
      Append(plan.tokens, sequence.tokens.begin() + sequence.done, sequence.tokens.begin() + sequence.done + count);
  const int32_t end = sequence.done + count;
  chunk.global_first = sequence.global_pages;
  chunk.global_pages.begin = static_cast<int32_t>(plan.global_pages.size());
  for (; layout.global.layers > 0 && sequence.global_pages * layout.global.page_tokens < end; ++sequence.global_pages)
    plan.global_pages.push_back(global.Take());
  chunk.global_pages.end = static_cast<int32_t>(plan.global_pages.size());
  if (layout.window.layers > 0) {
    const int32_t page = layout.window.page_tokens;
    const int32_t first = std::max(0, sequence.done - layout.window.window + 1) / page;
    for (; sequence.window_first < first; ++sequence.window_first) {
      window.Put(sequence.window_pages.front());
      sequence.window_pages.erase(sequence.window_pages.begin());
    }
    while ((sequence.window_first + static_cast<int32_t>(sequence.window_pages.size())) * page < end)
      sequence.window_pages.push_back(window.Take());
  }
  chunk.window_pages = Append(plan.window_pages, sequence.window_pages.begin(), sequence.window_pages.end());
  chunk.window_first_page = sequence.window_first;
  chunk.rows.begin = chunk.rows.end = static_cast<int32_t>(plan.rows.size());
  sequence.done = end;
  plan.chunks.push_back(chunk);
}

// The token after `position`, -1 at the end.
int32_t NextToken(const Sequence& sequence, int32_t position) {
  const auto next = static_cast<size_t>(position) + 1;
  return next < sequence.tokens.size() ? sequence.tokens[next] : -1;
}

// Keeps the choices of the batch's first `rows` rows, which are the measured sequence's.
class Recorder : public StepTrace {
 public:
  int32_t rows = 0;

  void OnBlocks(int32_t layer, int32_t kv_heads, int32_t top, std::span<const int32_t> ids,
                std::span<const int32_t> counts) override {
    for (int32_t t = 0; t < rows; ++t) {
      json groups = json::array();
      for (int32_t g = 0; g < kv_heads; ++g) {
        const auto pair = static_cast<size_t>(t * kv_heads + g);
        const auto row = ids.subspan(pair * static_cast<size_t>(top), static_cast<size_t>(counts[pair]));
        groups.push_back(std::vector<int32_t>(row.begin(), row.end()));
      }
      choices_["blocks"][std::to_string(layer)].push_back(groups);
    }
  }
  void OnExperts(int32_t layer, int32_t top, std::span<const int32_t> ids) override {
    for (int32_t t = 0; t < rows; ++t) {
      const auto row = ids.subspan(static_cast<size_t>(t * top), static_cast<size_t>(top));
      choices_["experts"][std::to_string(layer)].push_back(std::vector<int32_t>(row.begin(), row.end()));
    }
  }
  const json& choices() const { return choices_; }

 private:
  json choices_ = {{"blocks", json::object()}, {"experts", json::object()}};
};

// Appends the logprobs of every logit row of the last step: all of them, or those of `next` (one token per row; -1:
// none).
void AppendLogprobs(ModelRunner& runner, int32_t vocab, const std::vector<int32_t>* next, std::vector<float>& out) {
  const auto width = static_cast<size_t>(vocab);
  for (int32_t first = 0; first < runner.num_logit_rows(); first += runner.logit_slice()) {
    const int32_t count = std::min(runner.logit_slice(), runner.num_logit_rows() - first);
    std::vector<float> logits(static_cast<size_t>(count) * width);
    runner.backend().Download(logits.data(), runner.Logits(first, count), logits.size() * sizeof(float));
    for (size_t r = 0; r < static_cast<size_t>(count); ++r) {
      const std::span<const float> row(logits.data() + r * width, width);
      const double peak = *std::max_element(row.begin(), row.end());
      double total = 0;
      for (const float logit : row) total += std::exp(logit - peak);
      const auto logprob = [&](float logit) { return static_cast<float>(logit - peak - std::log(total)); };
      if (next == nullptr) {
        for (const float logit : row) out.push_back(logprob(logit));
      } else if (const int32_t token = (*next)[static_cast<size_t>(first) + r]; token >= 0) {
        out.push_back(logprob(row[static_cast<size_t>(token)]));
      }
    }
  }
}

absl::Status Run(Model& model, const json& job) {
  std::vector<Sequence> sequences(1);
  sequences[0].tokens = job.at("tokens").get<std::vector<int32_t>>();
  sequences[0].chunk = job.value("chunk", 0);
  for (const json& other : job.value("others", json::array())) {
    Sequence& sequence = sequences.emplace_back();
    sequence.tokens = other.at("tokens").get<std::vector<int32_t>>();
    sequence.chunk = other.value("chunk", 0);
  }
  const KvLayout& layout = model.runner->pool().layout();
  const ArenaLayout& arena = model.runner->pool().device();
  // The window class gets what its sequences need, and the global class the slabs after them.
  const int64_t window_pages = kMaxSequences * layout.window.MaxPages(kMaxContext, kMaxTokens);
  const int64_t slab = window_pages == 0 ? 0 : (window_pages - 1) / arena.window.pages_per_slab + 1;
  const auto shuffle = job.value("shuffle", 0u);
  FreePages window(0, window_pages, shuffle);
  FreePages global(slab * arena.global.pages_per_slab, arena.page_ids(KvClass::kGlobal), shuffle);
  Recorder recorder;
  model.runner->set_trace(&recorder);
  std::vector<float> logprobs;
  while (sequences[0].done < static_cast<int32_t>(sequences[0].tokens.size())) {
    StepPlan plan;
    for (size_t s = 0; s < sequences.size(); ++s) {
      if (sequences[s].done == static_cast<int32_t>(sequences[s].tokens.size())) continue;
      AddChunk(sequences[s], static_cast<int32_t>(s), layout, global, window, plan);
      if (s > 0) continue;
      for (int32_t i = 0; i < plan.num_tokens(); ++i) plan.logit_rows.push_back(i);
      plan.rows.resize(plan.logit_rows.size());
      plan.chunks[0].rows.end = plan.num_tokens();
    }
    recorder.rows = plan.chunks[0].tokens.size();
    HYSPARSE_RETURN_IF_ERROR(model.runner->Forward(plan));
    std::vector<int32_t> next;
    for (int32_t i = 0; i < recorder.rows; ++i) next.push_back(NextToken(sequences[0], plan.chunks[0].position + i));
    AppendLogprobs(*model.runner, model.spec.vocab, job.value("observed", false) ? &next : nullptr, logprobs);
  }
  model.runner->set_trace(nullptr);
  const std::string out = job.at("out").get<std::string>();
  std::ofstream(out + ".f32", std::ios::binary)
      .write(reinterpret_cast<const char*>(logprobs.data()), static_cast<std::streamsize>(logprobs.size() * 4));
  std::ofstream(out + ".json") << recorder.choices().dump();
  return absl::OkStatus();
}

absl::Status RunAll(const std::string& path) {
  HYSPARSE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  std::pair<std::string, std::unique_ptr<Model>> loaded;  // jobs come sorted by model: one is held at a time
  for (const json& job : json::parse(text)) {
    const std::string dtype = job.value("dtype", "float32");
    const std::string key = absl::StrCat(job.at("folder").get<std::string>(), " ", dtype);
    if (loaded.first != key) {
      loaded.second.reset();
      HYSPARSE_ASSIGN_OR_RETURN(
          loaded.second, Load(job.at("folder").get<std::string>(), dtype == "bfloat16" ? DType::kBF16 : DType::kF32));
      loaded.first = key;
      std::cerr << key << ": " << loaded.second->backend->Describe() << "\n";
    }
    HYSPARSE_RETURN_IF_ERROR(Run(*loaded.second, job));
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace hysparse

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: hysparse_forward JOBS.json\n";
    return 2;
  }
  try {
    const absl::Status status = hysparse::RunAll(argv[1]);
    if (status.ok()) return 0;
    std::cerr << "hysparse_forward: " << status.message() << "\n";
  } catch (const std::exception& error) {
    std::cerr << "hysparse_forward: " << error.what() << "\n";
  }
  return 1;
}
