// A stand-in for the model that notices every mistake in paging: "K and V" are the token ids, kept in pages as the plan
// says, and the next token is a hash of the whole context, read back through the block tables. A page with two writers,
// a wrong table or a window that slid too far gives another token, or an error that names it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/engine.h"
#include "engine/kv/residency.h"

namespace hysparse {

// One full layer and one SWA layer: both KV classes.
inline ModelSpec TestSpec() {
  ModelSpec spec;
  spec.vocab = 101;
  spec.hidden = 8;
  spec.max_context = 512;
  spec.stop_ids = {7};
  LayerSpec full;
  full.heads = full.kv_heads = 1;
  full.qk_dim = full.v_dim = 4;
  LayerSpec swa = full;
  swa.kind = LayerKind::kSwa;
  swa.window = 16;
  spec.layers = {full, swa};
  return spec;
}

// Global pages of 8 tokens and 256 bytes, window pages of 4 tokens and 128 bytes: a slab is one or two.
inline KvLayout TestLayout(const ModelSpec& spec = TestSpec()) {
  KvLayout layout = MakeKvLayout(spec, DType::kF32);
  layout.global.page_tokens = 8;
  layout.window.page_tokens = 4;
  return layout;
}
inline ArenaLayout TestArena(int64_t global_pages, int64_t window_pages, const KvLayout& layout = TestLayout()) {
  return MakeArenaLayout(layout, global_pages * layout.global.page_bytes() + window_pages * layout.window.page_bytes())
      .value();
}

inline EngineOptions TestOptions(int64_t global_pages = 200, int64_t window_pages = 60) {
  EngineOptions options;
  options.max_num_seqs = 8;
  options.max_num_batched_tokens = 32;
  options.max_waiting = 64;
  options.kv_layout = TestLayout();
  options.arena = TestArena(global_pages, window_pages);
  options.shrink_budget_with_depth = false;  // the test model has next to no fixed work
  options.check_invariants = true;
  return options;
}

inline uint64_t Hash(std::span<const int32_t> tokens) {
  uint64_t hash = 1469598103934665603u;
  for (int32_t token : tokens) hash = (hash ^ static_cast<uint64_t>(token + 1)) * 1099511628211u;
  return hash ^ hash >> 29;
}
// What the fake model says after `context`: never a stop id of TestSpec unless `stop_every` lets it.
inline int32_t FakeToken(std::span<const int32_t> context, const SampleRow& row, std::span<const int32_t> banned,
                         uint32_t stop_every) {
  const uint64_t hash = Hash(context) + (row.temperature > 0 ? row.seed * 31 + row.choice * 17 : 0);
  const auto is_banned = [&](int32_t t) { return std::find(banned.begin(), banned.end(), t) != banned.end(); };
  if (stop_every > 0 && hash / 101 % stop_every == 0 && !is_banned(7)) return 7;
  int32_t token = static_cast<int32_t>(hash % 101);
  while (token == 7 || is_banned(token)) token = (token + 1) % 101;
  return token;
}
inline float FakeLogprob(std::span<const int32_t> context, int32_t token) {
  return -static_cast<float>((Hash(context) + static_cast<uint64_t>(token)) % 1000) / 100.0f;
}

// Steps as the executor saw them. Shared with the test, since the engine owns the executor.
struct FakeModel {
  struct Chunk {
    int64_t sequence;
    int32_t position, tokens;
    bool operator==(const Chunk&) const = default;
  };

  uint32_t stop_every = 0;                            // 1 in so many tokens is the stop id 7
  std::function<absl::Status(const StepPlan&)> hook;  // engine thread, as a step is launched
  bool log_steps = true;                              // false: only the last one is kept
  std::mutex mutex;
  std::vector<std::vector<Chunk>> steps;
  size_t spills = 0, moves = 0, returns = 0;  // pages copied

  std::vector<std::vector<Chunk>> Steps() {
    std::lock_guard lock(mutex);
    return steps;
  }
};

// Runs a step inside Launch. Stricter than a device: what the contract of step_plan.h forbids is an error here.
class FakeExecutor : public Executor {
 public:
  FakeExecutor(std::shared_ptr<FakeModel> model, const ModelSpec& spec, const EngineOptions& options)
      : model_(std::move(model)),
        options_(options),
        window_(options.kv_layout.window.window),
        rebuild_(static_cast<int32_t>(RebuildTokens(spec))) {
    for (const KvClass kv_class : {KvClass::kGlobal, KvClass::kWindow}) {
      const KvClassLayout& layout = options.kv_layout.of(kv_class);
      const auto page_tokens = static_cast<size_t>(layout.layers > 0 ? layout.page_tokens : 0);
      Memory& memory = memory_[static_cast<size_t>(kv_class)];
      memory.page_tokens = static_cast<int32_t>(page_tokens);
      memory.device.assign(static_cast<size_t>(options.arena.page_ids(kv_class)) * page_tokens, -1);
      memory.host.assign(static_cast<size_t>(options.host_arena.page_ids(kv_class)) * page_tokens, -1);
    }
    tables_.resize(static_cast<size_t>(options.max_num_seqs));
  }

  void Launch(StepPlan plan) override { results_.push_back(Run(plan)); }
  absl::StatusOr<StepResult> Wait() override {
    absl::StatusOr<StepResult> result = std::move(results_.front());
    results_.pop_front();
    return result;
  }

 private:
  // "K and V" are token ids.
  struct Memory {
    int32_t page_tokens = 0;
    std::vector<int32_t> device, host;
    std::set<int32_t> spilling, returning;  // device pages, in this step
    std::map<int32_t, int64_t> writer;      // device page -> sequence that writes it in this step
  };
  Memory& of(KvClass kv_class) { return memory_[static_cast<size_t>(kv_class)]; }

  absl::StatusOr<StepResult> Run(StepPlan& plan) {
    Log(plan);
    if (model_->hook) {
      if (absl::Status status = model_->hook(plan); !status.ok()) return status;
    }
    if (plan.num_tokens() > options_.max_num_batched_tokens) return absl::InternalError("over the budget");
    if (absl::Status status = Copy(plan); !status.ok()) return status;
    for (const TableUpdate& update : plan.updates) {
      auto& table = tables_.at(static_cast<size_t>(update.slot));
      if (static_cast<size_t>(update.logical_page) < table.size()) table[update.logical_page] = update.page;
    }
    // All writes before all reads, as on a device: a page in two tables would show.
    for (const PlannedChunk& chunk : plan.chunks) {
      if (absl::Status status = Write(chunk, plan); !status.ok()) return status;
    }
    StepResult result;
    for (const PlannedChunk& chunk : plan.chunks) {
      if (absl::Status status = Read(chunk, plan, result); !status.ok()) return status;
    }
    sampled_ = result.token;
    return result;
  }

  void Log(const StepPlan& plan) {
    std::lock_guard lock(model_->mutex);
    if (!model_->log_steps) model_->steps.clear();
    auto& step = model_->steps.emplace_back();
    for (const PlannedChunk& c : plan.chunks) step.push_back({c.sequence, c.position, c.tokens.size()});
    model_->spills += plan.spills.size();
    model_->moves += plan.moves.size();
    model_->returns += plan.returns.size();
  }

  absl::Status Copy(const StepPlan& plan) {
    for (Memory& memory : memory_) memory.spilling.clear(), memory.returning.clear(), memory.writer.clear();
    for (const PageCopy& copy : plan.spills) {
      Memory& m = of(copy.kv_class);
      std::copy_n(&m.device.at(At(m, copy.from)), m.page_tokens, &m.host.at(At(m, copy.to)));
      m.spilling.insert(copy.from);
    }
    for (const PageCopy& copy : plan.moves) {
      Memory& m = of(copy.kv_class);
      if (m.spilling.contains(copy.to)) return absl::InternalError("a move overwrites a page that is spilled");
      std::copy_n(&m.device.at(At(m, copy.from)), m.page_tokens, &m.device.at(At(m, copy.to)));
    }
    for (const PageCopy& copy : plan.returns) {
      Memory& m = of(copy.kv_class);
      if (m.spilling.contains(copy.to)) return absl::InternalError("a return overwrites a page that is spilled");
      std::copy_n(&m.host.at(At(m, copy.from)), m.page_tokens, &m.device.at(At(m, copy.to)));
      m.returning.insert(copy.to);
    }
    return absl::OkStatus();
  }
  static size_t At(const Memory& memory, int32_t page) {
    return static_cast<size_t>(page) * static_cast<size_t>(memory.page_tokens);
  }

  // The page that holds a token's K and V, -1 when it is not in the table.
  int32_t PageOf(const PlannedChunk& c, const StepPlan& plan, KvClass kv_class, int32_t position) {
    Memory& m = of(kv_class);
    int32_t page = -1;
    if (kv_class == KvClass::kGlobal) {
      const std::vector<int32_t>& table = tables_.at(static_cast<size_t>(c.slot));
      const auto logical = static_cast<size_t>(position / m.page_tokens);
      if (logical < table.size()) page = table[logical];
    } else {
      const int32_t logical = position / m.page_tokens - c.window_first_page;
      if (logical >= 0 && logical < c.window_pages.size()) {
        page = plan.window_pages[static_cast<size_t>(c.window_pages.begin + logical)];
      }
    }
    return m.returning.contains(page) ? -1 : page;
  }
  // What is held for a token, null when its page is not in the table.
  int32_t* Held(const PlannedChunk& c, const StepPlan& plan, KvClass kv_class, int32_t position) {
    Memory& m = of(kv_class);
    const int32_t page = PageOf(c, plan, kv_class, position);
    return page < 0 ? nullptr : &m.device.at(At(m, page) + static_cast<size_t>(position % m.page_tokens));
  }
  int32_t Token(const PlannedChunk& chunk, const StepPlan& plan, int32_t i) const {
    const int32_t token = plan.tokens[static_cast<size_t>(chunk.tokens.begin + i)];
    if (token != kSampledToken) return token;
    const auto row = static_cast<size_t>(chunk.input_row);
    return row < sampled_.size() ? sampled_[row] : 0;  // the step before failed: whatever it is, it is dropped
  }

  absl::Status Write(const PlannedChunk& chunk, const StepPlan& plan) {
    auto& table = tables_.at(static_cast<size_t>(chunk.slot));
    table.resize(static_cast<size_t>(chunk.global_first));
    for (int32_t i = chunk.global_pages.begin; i < chunk.global_pages.end; ++i) {
      table.push_back(plan.global_pages[static_cast<size_t>(i)]);
    }
    for (int32_t i = 0; i < chunk.tokens.size(); ++i) {
      const int32_t position = chunk.position + i, token = Token(chunk, plan, i);
      for (const KvClass kv_class : {KvClass::kGlobal, KvClass::kWindow}) {
        if (of(kv_class).page_tokens == 0) continue;
        int32_t* held = Held(chunk, plan, kv_class, position);
        if (held == nullptr) return absl::InternalError(absl::StrCat("no page for ", position));
        if (kv_class == KvClass::kGlobal && position < chunk.write_from) {
          if (*held != token) return absl::InternalError(absl::StrCat("token ", position, " is not the cached one"));
          continue;
        }
        if (absl::Status status = Claim(chunk, plan, kv_class, position); !status.ok()) return status;
        *held = token;
      }
    }
    return absl::OkStatus();
  }

  // A page has one writer, and a spilled one has none.
  absl::Status Claim(const PlannedChunk& chunk, const StepPlan& plan, KvClass kv_class, int32_t position) {
    Memory& m = of(kv_class);
    const int32_t page = PageOf(chunk, plan, kv_class, position);
    if (m.spilling.contains(page)) return absl::InternalError("a spilled page is written");
    if (m.writer.try_emplace(page, chunk.sequence).first->second != chunk.sequence) {
      return absl::InternalError(absl::StrCat("page ", page, " has two writers"));
    }
    return absl::OkStatus();
  }

  absl::Status Read(const PlannedChunk& chunk, const StepPlan& plan, StepResult& result) {
    const int32_t end = chunk.position + chunk.tokens.size();
    std::vector<int32_t> context;
    for (int32_t i = 0; i < end; ++i) {
      const int32_t* held = Held(chunk, plan, KvClass::kGlobal, i);
      if (held == nullptr) return absl::InternalError(absl::StrCat("no page for ", i));
      context.push_back(*held);
    }
    // The rows of a rebuild see what it computed itself; from write_from on a row sees its whole window.
    const int32_t first_exact = std::max(chunk.position, chunk.write_from);
    if (first_exact < end && std::max(0, first_exact - rebuild_) < chunk.window_from) {
      return absl::InternalError(absl::StrCat("a rebuild from ", chunk.window_from, " is too short for ", first_exact));
    }
    const int32_t first_kept = window_ > 0 ? std::max({0, chunk.position - window_ + 1, chunk.window_from}) : end;
    for (int32_t i = first_kept; i < end; ++i) {
      const int32_t* held = Held(chunk, plan, KvClass::kWindow, i);
      if (held == nullptr || *held != context[static_cast<size_t>(i)]) {
        return absl::InternalError(absl::StrCat("the window lost token ", i));
      }
    }
    for (int32_t r = chunk.rows.begin; r < chunk.rows.end; ++r)
      Sample(chunk, plan, static_cast<size_t>(r), context, result);
    return absl::OkStatus();
  }

  void Sample(const PlannedChunk& chunk, const StepPlan& plan, size_t r, const std::vector<int32_t>& context,
              StepResult& result) {
    const SampleRow& row = plan.rows[r];
    const auto until = std::span(context).first(static_cast<size_t>(chunk.position + plan.logit_rows[r] + 1));
    EXPECT_EQ(row.position, until.size()) << "a row samples another position";
    const auto banned =
        std::span(plan.banned)
            .subspan(static_cast<size_t>(row.banned_begin), static_cast<size_t>(row.banned_end - row.banned_begin));
    const int32_t token = row.target >= 0 ? row.target : FakeToken(until, row, banned, model_->stop_every);
    result.token.push_back(token);
    result.logprob.push_back(row.want_logprob ? FakeLogprob(until, token) : 0);
    auto& top = result.top_logprobs.emplace_back();
    for (int32_t i = 0; i < row.num_top_logprobs; ++i) top.push_back({i, -static_cast<float>(i)});
  }

  std::shared_ptr<FakeModel> model_;
  EngineOptions options_;
  int32_t window_, rebuild_;
  Memory memory_[2];
  std::vector<std::vector<int32_t>> tables_;  // of each slot: its global pages
  std::vector<int32_t> sampled_;              // by the last step
  std::deque<absl::StatusOr<StepResult>> results_;
};

}  // namespace hysparse
