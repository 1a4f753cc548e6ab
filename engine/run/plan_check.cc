#include "engine/run/plan_check.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/result.h"

namespace hysparse {
namespace {

template <typename... Parts>
absl::Status Refuse(const PlannedChunk& chunk, const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat("sequence ", chunk.sequence, ": ", parts...));
}

bool Inside(PlanRange range, size_t size) {
  return range.begin >= 0 && range.begin <= range.end && static_cast<size_t>(range.end) <= size;
}

absl::Status CheckPages(const PlannedChunk& chunk, const std::vector<int32_t>& pages, PlanRange range, int32_t limit) {
  if (!Inside(range, pages.size())) return Refuse(chunk, "pages ", range.begin, " … ", range.end, " of ", pages.size());
  for (int32_t i = range.begin; i < range.end; ++i) {
    const int32_t page = pages[static_cast<size_t>(i)];
    if (page < 0 || page >= limit) return Refuse(chunk, "page ", page, " of ", limit);
  }
  return absl::OkStatus();
}

absl::Status CheckCopies(const char* name, const std::vector<PageCopy>& copies, const ArenaLayout& from,
                         const ArenaLayout& to) {
  for (const PageCopy& copy : copies) {
    if (copy.kv_class != KvClass::kGlobal && copy.kv_class != KvClass::kWindow)
      return absl::InvalidArgumentError(absl::StrCat("a ", name, " of KV class ", static_cast<int>(copy.kv_class)));
    const int32_t sources = from.page_ids(copy.kv_class), targets = to.page_ids(copy.kv_class);
    if (copy.from < 0 || copy.from >= sources || copy.to < 0 || copy.to >= targets)
      return absl::InvalidArgumentError(
          absl::StrCat("a ", name, " from page ", copy.from, " of ", sources, " to ", copy.to, " of ", targets));
  }
  return absl::OkStatus();
}

absl::Status CheckSampling(const StepPlan& plan) {
  for (const SampleRow& row : plan.rows) {
    if (!Inside({row.bias_begin, row.bias_end}, plan.bias.size()) ||
        !Inside({row.history_begin, row.history_end}, plan.history.size()) ||
        !Inside({row.banned_begin, row.banned_end}, plan.banned.size()))
      return absl::InvalidArgumentError("a row to sample names entries that the plan does not have");
    if (row.history_begin < row.history_end &&
        plan.history[static_cast<size_t>(row.history_end) - 1].token == kSampledToken)
      return absl::InvalidArgumentError("a row's history counts a token that no chunk takes from the step before");
  }
  return absl::OkStatus();
}

}  // namespace

PlanCheck::PlanCheck(const KvLayout& layout, const BatchLimits& limits, const ArenaLayout& device,
                     const ArenaLayout& host)
    : layout_(layout),
      limits_(limits),
      device_(device),
      host_(host),
      slots_(static_cast<size_t>(limits.max_sequences)) {}

absl::Status PlanCheck::Check(const StepPlan& plan) {
  if (plan.empty() || plan.chunks.size() > slots_.size() ||
      plan.tokens.size() > static_cast<size_t>(limits_.max_tokens))
    return absl::InvalidArgumentError(absl::StrCat("a step of ", plan.chunks.size(), " sequences and ",
                                                   plan.tokens.size(), " tokens; at most ", limits_.max_sequences,
                                                   " and ", limits_.max_tokens, " fit"));
  if (plan.rows.size() != plan.logit_rows.size() || plan.rows.size() > static_cast<size_t>(limits_.max_tokens))
    return absl::InvalidArgumentError(absl::StrCat("a step of ", plan.logit_rows.size(), " logit rows and ",
                                                   plan.rows.size(), " rows to sample; at most ", limits_.max_tokens,
                                                   " fit"));
  HYSPARSE_RETURN_IF_ERROR(CheckCopies("spill", plan.spills, device_, host_));
  HYSPARSE_RETURN_IF_ERROR(CheckCopies("move", plan.moves, device_, device_));
  HYSPARSE_RETURN_IF_ERROR(CheckCopies("return", plan.returns, host_, device_));
  HYSPARSE_RETURN_IF_ERROR(CheckSampling(plan));
  HYSPARSE_RETURN_IF_ERROR(CheckUpdates(plan));
  const absl::Status chunks = CheckChunks(plan);
  for (const PlannedChunk& chunk : plan.chunks) {
    if (chunk.slot >= 0 && chunk.slot < limits_.max_sequences) slots_[static_cast<size_t>(chunk.slot)].in_step = false;
  }
  return chunks;
}

void PlanCheck::Accept(const StepPlan& plan) {
  for (const PlannedChunk& chunk : plan.chunks) {
    Slot& slot = slots_[static_cast<size_t>(chunk.slot)];
    slot = {chunk.sequence, static_cast<int32_t>(GlobalPages(chunk)), false};
  }
}

absl::Status PlanCheck::CheckUpdates(const StepPlan& plan) const {
  const int32_t pages = device_.page_ids(KvClass::kGlobal);
  for (const TableUpdate& update : plan.updates) {
    const bool slot = update.slot >= 0 && update.slot < limits_.max_sequences;
    const int32_t held = slot ? slots_[static_cast<size_t>(update.slot)].global_pages : 0;
    if (update.logical_page < 0 || update.logical_page >= held || update.page < 0 || update.page >= pages)
      return absl::InvalidArgumentError(absl::StrCat("an update of slot ", update.slot, " of ", limits_.max_sequences,
                                                     ", page ", update.logical_page, " of ", held, ", to page ",
                                                     update.page, " of ", pages));
  }
  return absl::OkStatus();
}

absl::Status PlanCheck::CheckChunks(const StepPlan& plan) {
  int32_t tokens = 0, rows = 0;
  for (const PlannedChunk& chunk : plan.chunks) {
    HYSPARSE_RETURN_IF_ERROR(CheckChunk(plan, chunk, tokens, rows));
    tokens = chunk.tokens.end;
    rows = chunk.rows.end;
  }
  if (static_cast<size_t>(tokens) == plan.tokens.size() && static_cast<size_t>(rows) == plan.rows.size())
    return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the chunks hold ", tokens, " of ", plan.tokens.size(), " tokens and ",
                                                 rows, " of ", plan.rows.size(), " rows"));
}

absl::Status PlanCheck::CheckChunk(const StepPlan& plan, const PlannedChunk& chunk, int32_t first_token,
                                   int32_t first_row) {
  if (chunk.slot < 0 || chunk.slot >= limits_.max_sequences || slots_[static_cast<size_t>(chunk.slot)].in_step)
    return Refuse(chunk, "slot ", chunk.slot, " of ", limits_.max_sequences, ", or twice in a step");
  slots_[static_cast<size_t>(chunk.slot)].in_step = true;
  const int64_t end = int64_t{chunk.position} + chunk.tokens.size();
  if (!Inside(chunk.tokens, plan.tokens.size()) || chunk.tokens.begin != first_token || chunk.tokens.size() == 0 ||
      chunk.position < 0 || end > limits_.max_context)
    return Refuse(chunk, "tokens ", chunk.position, " … ", end - 1, " of a context of ", limits_.max_context, ", from ",
                  chunk.tokens.begin, " on where ", first_token, " comes next");
  for (int32_t i = chunk.tokens.begin; i < chunk.tokens.end; ++i) {
    if (plan.tokens[static_cast<size_t>(i)] < 0)
      return Refuse(chunk, "token ", plan.tokens[static_cast<size_t>(i)], " at position ",
                    chunk.position + i - chunk.tokens.begin);
  }
  if (chunk.window_from < 0 || chunk.window_from > chunk.position || chunk.window_from > chunk.write_from ||
      chunk.write_from > limits_.max_context)
    return Refuse(chunk, "a rebuild from ", chunk.window_from, " up to ", chunk.write_from, " at position ",
                  chunk.position);
  HYSPARSE_RETURN_IF_ERROR(CheckRows(plan, chunk, first_row));
  HYSPARSE_RETURN_IF_ERROR(CheckGlobal(plan, chunk));
  return CheckWindow(plan, chunk);
}

absl::Status PlanCheck::CheckRows(const StepPlan& plan, const PlannedChunk& chunk, int32_t first_row) const {
  if (!Inside(chunk.rows, plan.rows.size()) || chunk.rows.begin != first_row)
    return Refuse(chunk, "logit rows ", chunk.rows.begin, " … ", chunk.rows.end, " where ", first_row, " comes next");
  for (int32_t i = chunk.rows.begin; i < chunk.rows.end; ++i) {
    const int32_t row = plan.logit_rows[static_cast<size_t>(i)];
    if (row < 0 || row >= chunk.tokens.size() || chunk.position + row < chunk.write_from)
      return Refuse(chunk, "logit row ", row, " of ", chunk.tokens.size(), " tokens at ", chunk.position,
                    ", written from ", chunk.write_from);
  }
  return absl::OkStatus();
}

int64_t PlanCheck::GlobalPages(const PlannedChunk& chunk) const {
  const Slot& slot = slots_[static_cast<size_t>(chunk.slot)];
  if (chunk.global_pages.size() > 0) return int64_t{chunk.global_first} + chunk.global_pages.size();
  return slot.sequence == chunk.sequence ? slot.global_pages : 0;
}

absl::Status PlanCheck::CheckGlobal(const StepPlan& plan, const PlannedChunk& chunk) const {
  HYSPARSE_RETURN_IF_ERROR(
      CheckPages(chunk, plan.global_pages, chunk.global_pages, device_.page_ids(KvClass::kGlobal)));
  const KvClassLayout& of = layout_.global;
  if (of.layers == 0) return absl::OkStatus();
  const Slot& slot = slots_[static_cast<size_t>(chunk.slot)];
  const int64_t held = slot.sequence == chunk.sequence ? slot.global_pages : 0, pages = GlobalPages(chunk);
  const int64_t end = int64_t{chunk.position} + chunk.tokens.size();
  if (chunk.global_first < 0 || chunk.global_first > held || pages * of.page_tokens < end ||
      pages > of.MaxPages(limits_.max_context, limits_.max_tokens))
    return Refuse(chunk, pages, " global pages, from ", chunk.global_first, " on where ", held,
                  " are known, do not cover tokens 0 … ", end - 1, " of at most ", limits_.max_context);
  return absl::OkStatus();
}

absl::Status PlanCheck::CheckWindow(const StepPlan& plan, const PlannedChunk& chunk) const {
  HYSPARSE_RETURN_IF_ERROR(
      CheckPages(chunk, plan.window_pages, chunk.window_pages, device_.page_ids(KvClass::kWindow)));
  const KvClassLayout& of = layout_.window;
  if (of.layers == 0) return absl::OkStatus();
  const int64_t begin = std::max<int64_t>(chunk.window_from, int64_t{chunk.position} - of.window + 1);
  const int64_t end = int64_t{chunk.position} + chunk.tokens.size();
  const int64_t first = chunk.window_first_page, last = first + chunk.window_pages.size();
  if (first < 0 || first > begin / of.page_tokens || last <= (end - 1) / of.page_tokens)
    return Refuse(chunk, "window pages ", first, " … ", last - 1, " do not cover tokens ", begin, " … ", end - 1);
  if (chunk.window_pages.size() > of.MaxPages(limits_.max_context, limits_.max_tokens))
    return Refuse(chunk, chunk.window_pages.size(), " window pages are more than its context needs");
  return absl::OkStatus();
}

}  // namespace hysparse
