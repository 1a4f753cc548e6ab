#include "engine/run/batch_inputs.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/result.h"

namespace hysparse {

absl::StatusOr<BatchInputs> BatchInputs::Make(const KvLayout& layout, const BatchLimits& limits, int64_t global_pages,
                                              int64_t window_pages, Backend& backend) {
  BatchInputs in;
  in.layout_ = layout;
  in.limits_ = limits;
  in.global_pages_ = global_pages;
  in.window_pages_ = window_pages;
  in.backend_ = &backend;
  const auto tokens = static_cast<size_t>(limits.max_tokens), sequences = static_cast<size_t>(limits.max_sequences);
  const auto table = [&](const KvClassLayout& of) {
    return sequences * static_cast<size_t>(of.MaxPages(limits.max_context, limits.max_tokens));
  };
  const std::pair<Array*, size_t> arrays[] = {
      {&in.tokens_, tokens},          {&in.position_, tokens},
      {&in.sequence_, tokens},        {&in.query_start_, sequences + 1},
      {&in.logit_index_, tokens},     {&in.global_table_, table(layout.global)},
      {&in.global_first_, sequences}, {&in.window_table_, table(layout.window)},
      {&in.window_first_, sequences},
  };
  size_t total = 0;
  for (const auto& [array, capacity] : arrays) total += (capacity + 15) / 16 * 16;
  HYSPARSE_ASSIGN_OR_RETURN(in.memory_, backend.Allocate(total * sizeof(int32_t)));
  auto* device = reinterpret_cast<int32_t*>(in.memory_.get());
  for (const auto& [array, capacity] : arrays) {
    array->capacity = capacity;
    array->device = device;
    array->host.reserve(capacity);
    device += (capacity + 15) / 16 * 16;
  }
  return in;
}

void BatchInputs::Upload(const Array& array) {
  if (!array.host.empty()) backend_->Upload(array.device, array.host.data(), array.host.size() * sizeof(int32_t));
}

absl::Status BatchInputs::CheckPages(const PlannedChunk& chunk, KvClass kv_class) const {
  const bool global = kv_class == KvClass::kGlobal;
  const KvClassLayout& of = layout_.of(kv_class);
  if (of.layers == 0) return absl::OkStatus();
  const std::vector<int32_t>& pages = global ? chunk.global_pages : chunk.window_pages;
  const int64_t first = global ? 0 : chunk.window_first_page;
  const int64_t begin = global ? 0 : std::max<int64_t>(0, int64_t{chunk.position} - of.window + 1);
  const int64_t end = int64_t{chunk.position} + static_cast<int64_t>(chunk.tokens.size());
  const int64_t last = first + static_cast<int64_t>(pages.size());
  if (first < 0 || first > begin / of.page_tokens || last <= (end - 1) / of.page_tokens)
    return absl::InvalidArgumentError(absl::StrCat("sequence ", chunk.sequence, ": pages ", first, " … ", last - 1,
                                                   " do not cover tokens ", begin, " … ", end - 1));
  const int64_t limit = global ? global_pages_ : window_pages_;
  for (const int32_t page : pages) {
    if (page < 0 || page >= limit)
      return absl::InvalidArgumentError(absl::StrCat("sequence ", chunk.sequence, ": page ", page, " of ", limit));
  }
  return absl::OkStatus();
}

absl::Status BatchInputs::CheckChunk(const PlannedChunk& chunk) const {
  const int64_t end = int64_t{chunk.position} + static_cast<int64_t>(chunk.tokens.size());
  if (chunk.tokens.empty() || chunk.position < 0 || end > limits_.max_context)
    return absl::InvalidArgumentError(absl::StrCat("sequence ", chunk.sequence, ": tokens ", chunk.position, " … ",
                                                   end - 1, " of a context of ", limits_.max_context));
  for (const int32_t row : chunk.logit_rows) {
    if (row < 0 || row >= static_cast<int64_t>(chunk.tokens.size()))
      return absl::InvalidArgumentError(absl::StrCat("sequence ", chunk.sequence, ": logit row ", row));
  }
  HYSPARSE_RETURN_IF_ERROR(CheckPages(chunk, KvClass::kGlobal));
  return CheckPages(chunk, KvClass::kWindow);
}

absl::Status BatchInputs::FillTables(const StepPlan& plan, KvClass kv_class) {
  const bool global = kv_class == KvClass::kGlobal;
  Array& table = global ? global_table_ : window_table_;
  Array& first = global ? global_first_ : window_first_;
  size_t stride = 0;
  if (layout_.of(kv_class).layers > 0) {
    for (const PlannedChunk& chunk : plan.chunks)
      stride = std::max(stride, (global ? chunk.global_pages : chunk.window_pages).size());
  }
  if (stride * plan.chunks.size() > table.capacity)
    return absl::InvalidArgumentError(absl::StrCat("a sequence holds ", stride, " pages, more than its context needs"));
  table.host.assign(stride * plan.chunks.size(), 0);
  first.host.clear();
  for (size_t s = 0; s < plan.chunks.size(); ++s) {
    const PlannedChunk& chunk = plan.chunks[s];
    const std::vector<int32_t>& pages = global ? chunk.global_pages : chunk.window_pages;
    std::copy_n(pages.begin(), std::min(pages.size(), stride), table.host.begin() + static_cast<int64_t>(s * stride));
    first.host.push_back(global ? 0 : chunk.window_first_page);
  }
  Upload(table);
  Upload(first);
  (global ? global_ : window_) = {table.device, static_cast<int32_t>(stride), first.device};
  return absl::OkStatus();
}

absl::Status BatchInputs::Fill(const StepPlan& plan) {
  if (plan.chunks.empty() || plan.chunks.size() > static_cast<size_t>(limits_.max_sequences) ||
      plan.num_tokens() > limits_.max_tokens)
    return absl::InvalidArgumentError(absl::StrCat("a step of ", plan.chunks.size(), " sequences and ",
                                                   plan.num_tokens(), " tokens; at most ", limits_.max_sequences,
                                                   " and ", limits_.max_tokens, " fit"));
  for (Array* array : {&tokens_, &position_, &sequence_, &query_start_, &logit_index_}) array->host.clear();
  for (size_t s = 0; s < plan.chunks.size(); ++s) {
    const PlannedChunk& chunk = plan.chunks[s];
    HYSPARSE_RETURN_IF_ERROR(CheckChunk(chunk));
    const auto start = static_cast<int32_t>(tokens_.host.size());
    query_start_.host.push_back(start);
    if (logit_index_.host.size() + chunk.logit_rows.size() > logit_index_.capacity)
      return absl::InvalidArgumentError(absl::StrCat("sequence ", chunk.sequence, ": more logit rows than tokens"));
    for (const int32_t row : chunk.logit_rows) logit_index_.host.push_back(start + row);
    for (size_t i = 0; i < chunk.tokens.size(); ++i) {
      tokens_.host.push_back(chunk.tokens[i]);
      position_.host.push_back(chunk.position + static_cast<int32_t>(i));
      sequence_.host.push_back(static_cast<int32_t>(s));
    }
  }
  query_start_.host.push_back(static_cast<int32_t>(tokens_.host.size()));
  HYSPARSE_RETURN_IF_ERROR(FillTables(plan, KvClass::kGlobal));
  HYSPARSE_RETURN_IF_ERROR(FillTables(plan, KvClass::kWindow));
  for (const Array* array : {&tokens_, &position_, &sequence_, &query_start_, &logit_index_}) Upload(*array);
  batch_.num_tokens = static_cast<int32_t>(tokens_.host.size());
  batch_.num_sequences = static_cast<int32_t>(plan.chunks.size());
  batch_.query_start = query_start_.device;
  batch_.sequence = sequence_.device;
  batch_.position = position_.device;
  return absl::OkStatus();
}

}  // namespace hysparse
