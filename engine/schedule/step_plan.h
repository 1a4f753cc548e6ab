// StepPlan: what one step computes, as plain data: no pointers into the scheduler, so that it can be made while the
// step before it runs and be broadcast to ranks. Steps run in the order they were planned.
//
// A rank keeps the block tables of `max_num_seqs` slots; a plan says what changed in them, so that its size does not
// grow with the context. A page id p of class c lies at arena base + p * page_stride(c) (engine/kv/arena_layout.h).
#pragma once

#include <cstdint>
#include <vector>

#include "engine/kv/residency.h"
#include "engine/request.h"
#include "kernels/params.h"

namespace hysparse {

// A token that the step before samples: not known yet when the plan is made.
constexpr int32_t kSampledToken = -1;

// A half-open range of one of the plan's arrays.
struct PlanRange {
  int32_t begin = 0, end = 0;
  int32_t size() const { return end - begin; }
};

// A chunk of one sequence: its tokens sit at positions position … position + tokens.size() - 1. Ranges index the plan's
// arrays.
struct PlannedChunk {
  int64_t sequence = 0;  // engine-wide sequence id
  int32_t slot = 0;      // row of the rank's block tables, the sequence's own while it runs
  int32_t position = 0;
  PlanRange tokens;
  // The row of the step before whose sample is the chunk's only token, which then reads kSampledToken. -1: none.
  int32_t input_row = -1;
  // The global block table from logical page `global_first` on, as far as it changed: the pages appended since the
  // slot's last chunk, or all of a sequence new to the slot.
  int32_t global_first = 0;
  PlanRange global_pages;
  // The window block table, whole: logical pages window_first_page ….
  int32_t window_first_page = 0;
  PlanRange window_pages;
  // A rebuild: K and V of the full layers are cached for positions below `write_from` and are read, not written; those
  // rows exist to fill the window layers' pages and have no logits. Window layers hold nothing before `window_from`,
  // and keys before it are masked. Both 0 for a chunk that is no part of a rebuild.
  int32_t write_from = 0, window_from = 0;
  // Rows whose logits are wanted: plan.logit_rows (as indexes into the chunk's tokens) and plan.rows run in parallel.
  PlanRange rows;
};

// One entry of a slot's global block table that changed in place, because its page moved or was found to be cached.
struct TableUpdate {
  int32_t slot = 0, logical_page = 0, page = 0;
};

// One page copied whole. Ids of device pages or of pages of the host arena, as the list says.
struct PageCopy {
  KvClass kv_class = KvClass::kGlobal;
  int32_t from = 0, to = 0;
};

struct StepPlan {
  uint64_t step = 0;
  // Copies come first, list by list and in order: each reads what the lists and the entries before it left. `spills`
  // go from device to host pages, `moves` from device to device (the source may live on), `returns` from host to
  // device. No chunk of the same step reads a returned page, and no page of the same step overwrites one that is
  // spilled, so that a device may let these two run beside the step; they are done when the step is.
  std::vector<PageCopy> spills, moves, returns;
  std::vector<TableUpdate> updates;  // before the chunks
  std::vector<PlannedChunk> chunks;  // may be empty when there are copies
  std::vector<int32_t> tokens, global_pages, window_pages;
  std::vector<int32_t> logit_rows;
  std::vector<SampleRow> rows;  // their ranges index the arrays below
  std::vector<TokenBias> bias;
  // An entry with token kSampledToken stands last in its row's range: the chunk's input token, whatever it turns out to
  // be, was output once more. A rank merges it into the row's other entries.
  std::vector<TokenCount> history;
  std::vector<int32_t> banned;

  int32_t num_tokens() const { return static_cast<int32_t>(tokens.size()); }
  bool empty() const { return chunks.empty() && spills.empty() && moves.empty() && returns.empty(); }
};

// Results of the plan's rows, in their order.
struct StepResult {
  std::vector<int32_t> token;
  std::vector<float> logprob;
  std::vector<std::vector<TokenLogprob>> top_logprobs;
};

}  // namespace hysparse
