#include "engine/run/batch_inputs.h"

#include <algorithm>

#include "engine/base/result.h"

namespace hysparse {

absl::StatusOr<BatchInputs> BatchInputs::Make(const KvLayout& layout, const std::vector<int64_t>& rebuild_rows,
                                              const BatchLimits& limits, const ArenaLayout& device,
                                              const ArenaLayout& host, Backend& backend) {
  BatchInputs in;
  in.layout_ = layout;
  in.rebuild_rows_ = rebuild_rows;
  in.check_ = PlanCheck(layout, limits, device, host);
  in.backend_ = &backend;
  // A batch can shrink wherever fewer rows are needed than at the layer before.
  size_t stages = 1;
  for (size_t l = 1; l + 1 < rebuild_rows.size(); ++l) stages += rebuild_rows[l] != rebuild_rows[l - 1] ? 1 : 0;
  in.stages_.resize(stages);
  in.shrinks_.reserve(stages);
  const auto tokens = static_cast<size_t>(limits.max_tokens), sequences = static_cast<size_t>(limits.max_sequences);
  const auto pages = [&](const KvClassLayout& of) {
    return static_cast<size_t>(of.MaxPages(limits.max_context, limits.max_tokens));
  };
  std::vector<std::pair<Array*, size_t>> arrays = {
      {&in.tokens_, tokens},         {&in.logit_index_, tokens},
      {&in.slot_, sequences},        {&in.write_from_, sequences},
      {&in.window_from_, sequences}, {&in.window_table_, sequences * pages(layout.window)},
      {&in.window_first_, sequences}};
  for (Stage& stage : in.stages_) {
    for (Array* array : {&stage.keep, &stage.position, &stage.sequence}) arrays.emplace_back(array, tokens);
    arrays.emplace_back(&stage.query_start, sequences + 1);
  }
  in.global_.stride = static_cast<int32_t>(pages(layout.global));
  size_t total = sequences * pages(layout.global);
  for (const auto& [array, capacity] : arrays) total += (capacity + 15) / 16 * 16;
  HYSPARSE_ASSIGN_OR_RETURN(in.memory_, backend.Allocate(total * sizeof(int32_t)));
  auto* at = reinterpret_cast<int32_t*>(in.memory_.get());
  for (const auto& [array, capacity] : arrays) {
    array->host.reserve(capacity);
    array->device = at;
    at += (capacity + 15) / 16 * 16;
  }
  in.global_table_ = at;
  in.global_ = {at, in.global_.stride, in.slot_.device, nullptr};
  return in;
}

void BatchInputs::Upload(const Array& array) {
  if (!array.host.empty()) backend_->Upload(array.device, array.host.data(), array.host.size() * sizeof(int32_t));
}

absl::Status BatchInputs::Fill(const StepPlan& plan) {
  HYSPARSE_RETURN_IF_ERROR(check_.Check(plan));
  check_.Accept(plan);
  inputs_ = {};
  FillTables(plan);
  FillStages(plan);
  FillRebuilds(plan);
  FillLogitIndex(plan);
  return absl::OkStatus();
}

void BatchInputs::FillTables(const StepPlan& plan) {
  const auto upload = [&](int64_t slot, int64_t page, const int32_t* from, int32_t count) {
    backend_->Upload(global_table_ + slot * global_.stride + page, from, static_cast<size_t>(count) * sizeof(int32_t));
  };
  for (const TableUpdate& update : plan.updates) upload(update.slot, update.logical_page, &update.page, 1);
  slot_.host.clear();
  window_first_.host.clear();
  size_t stride = 0;
  for (const PlannedChunk& chunk : plan.chunks) {
    const PlanRange pages = chunk.global_pages;
    if (pages.size() > 0) upload(chunk.slot, chunk.global_first, plan.global_pages.data() + pages.begin, pages.size());
    slot_.host.push_back(chunk.slot);
    window_first_.host.push_back(chunk.window_first_page);
    stride = std::max(stride, static_cast<size_t>(chunk.window_pages.size()));
  }
  window_table_.host.assign(stride * plan.chunks.size(), 0);
  for (size_t s = 0; s < plan.chunks.size(); ++s) {
    const PlanRange pages = plan.chunks[s].window_pages;
    std::copy_n(plan.window_pages.begin() + pages.begin, pages.size(),
                window_table_.host.begin() + static_cast<int64_t>(s * stride));
  }
  for (const Array* array : {&slot_, &window_first_, &window_table_}) Upload(*array);
  window_ = {window_table_.device, static_cast<int32_t>(stride), nullptr, window_first_.device};
}

int32_t BatchInputs::FirstRow(const PlannedChunk& chunk, size_t l) const {
  const int64_t row = int64_t{chunk.write_from} - rebuild_rows_[l] - chunk.position;
  return static_cast<int32_t>(std::clamp<int64_t>(row, 0, chunk.tokens.size()));
}

void BatchInputs::FillStages(const StepPlan& plan) {
  used_stages_ = 0;
  shrinks_.clear();
  FillStage(plan, 0, 0);
  const bool rebuild = std::any_of(plan.chunks.begin(), plan.chunks.end(),
                                   [](const PlannedChunk& chunk) { return chunk.write_from > chunk.position; });
  const size_t layers = layout_.layers.size();
  for (size_t l = 1; rebuild && l < layers; ++l) {
    const size_t before = stages_[used_stages_ - 1].layer;
    if (rebuild_rows_[l] == rebuild_rows_[before]) continue;
    const bool shrinks = std::any_of(plan.chunks.begin(), plan.chunks.end(), [&](const PlannedChunk& chunk) {
      return FirstRow(chunk, l) != FirstRow(chunk, before);
    });
    if (!shrinks) continue;
    FillStage(plan, used_stages_, l);
    const Stage& stage = stages_[used_stages_ - 1];
    shrinks_.push_back({l, Batch(stage), stage.keep.device});
  }
  inputs_.batch = Batch(stages_[0]);
  inputs_.shrinks = shrinks_;
}

void BatchInputs::FillStage(const StepPlan& plan, size_t index, size_t l) {
  Stage& stage = stages_[index];
  stage.layer = l;
  for (Array* array : {&stage.keep, &stage.position, &stage.sequence, &stage.query_start}) array->host.clear();
  if (index == 0) tokens_.host.clear();
  for (size_t s = 0; s < plan.chunks.size(); ++s) {
    const PlannedChunk& chunk = plan.chunks[s];
    const int32_t first = FirstRow(chunk, l);
    stage.query_start.host.push_back(static_cast<int32_t>(stage.position.host.size()));
    for (int32_t row = first; row < chunk.tokens.size(); ++row) {
      stage.position.host.push_back(chunk.position + row);
      stage.sequence.host.push_back(static_cast<int32_t>(s));
    }
    if (index == 0) {
      tokens_.host.insert(tokens_.host.end(), plan.tokens.begin() + chunk.tokens.begin + first,
                          plan.tokens.begin() + chunk.tokens.end);
      continue;
    }
    const Stage& before = stages_[index - 1];
    const int32_t skip = before.query_start.host[s] - FirstRow(chunk, before.layer);
    for (int32_t row = first; row < chunk.tokens.size(); ++row) stage.keep.host.push_back(skip + row);
  }
  stage.query_start.host.push_back(static_cast<int32_t>(stage.position.host.size()));
  if (index == 0) Upload(tokens_);
  for (const Array* array : {&stage.keep, &stage.position, &stage.sequence, &stage.query_start}) Upload(*array);
  used_stages_ = index + 1;
}

RaggedBatch BatchInputs::Batch(const Stage& stage) const {
  RaggedBatch batch;
  batch.num_tokens = static_cast<int32_t>(stage.position.host.size());
  batch.num_sequences = static_cast<int32_t>(stage.query_start.host.size()) - 1;
  batch.query_start = stage.query_start.device;
  batch.sequence = stage.sequence.device;
  batch.position = stage.position.device;
  return batch;
}

void BatchInputs::FillRebuilds(const StepPlan& plan) {
  inputs_.tokens = tokens_.device;
  const bool rebuilt = std::any_of(plan.chunks.begin(), plan.chunks.end(),
                                   [](const PlannedChunk& chunk) { return chunk.write_from > 0; });
  if (!rebuilt) return;
  write_from_.host.clear();
  window_from_.host.clear();
  for (const PlannedChunk& chunk : plan.chunks) {
    write_from_.host.push_back(chunk.write_from);
    window_from_.host.push_back(chunk.window_from);
  }
  Upload(write_from_);
  Upload(window_from_);
  inputs_.write_from = write_from_.device;
  inputs_.window_from = window_from_.device;
}

void BatchInputs::FillLogitIndex(const StepPlan& plan) {
  logit_index_.host.clear();
  const std::vector<int32_t>& start = stages_[used_stages_ - 1].query_start.host;
  for (size_t s = 0; s < plan.chunks.size(); ++s) {
    const PlannedChunk& chunk = plan.chunks[s];
    // Rows leave a chunk at its front.
    const int32_t gone = chunk.tokens.size() - (start[s + 1] - start[s]);
    for (int32_t i = chunk.rows.begin; i < chunk.rows.end; ++i)
      logit_index_.host.push_back(start[s] + plan.logit_rows[static_cast<size_t>(i)] - gone);
  }
  Upload(logit_index_);
}

}  // namespace hysparse
