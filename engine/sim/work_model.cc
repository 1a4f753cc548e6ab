#include "engine/sim/work_model.h"

#include <algorithm>
#include <cmath>

#include "engine/model/rebuild.h"

namespace hysparse {
namespace {

double Roofline(const Work& work, double bandwidth, double flops) {
  return std::max(work.bytes / bandwidth, work.flops / flops);
}

// Keys that `count` queries from `position` on see in all, each at most `most`.
double KeysSeen(double position, double count, double most) {
  const double growing = std::clamp(most - position, 0.0, count);  // queries that see fewer than `most`
  return growing * position + growing * (growing + 1) / 2 + (count - growing) * most;
}

}  // namespace

WorkModel::WorkModel(const ModelSpec& spec, const KvLayout& kv, int32_t tensor_parallel, double weight_bytes)
    : ranks_(std::max(1, tensor_parallel)),
      weight_bytes_(weight_bytes),
      layers_(static_cast<int32_t>(spec.layers.size())),
      hidden_(spec.hidden),
      experts_(spec.moe.experts),
      active_experts_(spec.moe.experts_per_token),
      rebuild_rows_(RebuildRows(spec)),
      global_page_bytes_(static_cast<double>(kv.global.page_bytes())),
      window_page_bytes_(static_cast<double>(kv.window.page_bytes())) {
  for (size_t l = 0; l < spec.layers.size(); ++l) AddLayer(spec, spec.layers[l], kv, l);
  head_weights_ = hidden_ * spec.vocab / ranks_;
  resident_weights_ += dense_weights_ + head_weights_ * (spec.tie_embeddings ? 1 : 2);
}

void WorkModel::AddLayer(const ModelSpec& spec, const LayerSpec& layer, const KvLayout& kv, size_t index) {
  const double heads = layer.heads, sizes = layer.qk_dim + layer.v_dim;
  const double rank_heads = heads / ranks_, rank_kv_heads = kv.layers[index].kv_heads;
  const double gate = spec.gate_per_head ? 1 : layer.v_dim;
  const double columns =
      rank_heads * (sizes + gate * (layer.gate ? 1 : 0) + gate * (layer.sparse_gate ? 1 : 0)) + rank_kv_heads * sizes;
  dense_weights_ += hidden_ * columns;
  if (layer.moe) {
    expert_weights_ += 3 * hidden_ * spec.moe.width / ranks_;
    resident_weights_ += 3 * hidden_ * spec.moe.width * spec.moe.experts / ranks_;
    dense_weights_ += hidden_ * spec.moe.experts + 3 * hidden_ * spec.moe.shared_width / ranks_;
  } else {
    dense_weights_ += 3 * hidden_ * spec.intermediate / ranks_;
  }

  Attention each;
  each.kind = layer.kind;
  each.window = layer.window;
  each.selected = layer.kind == LayerKind::kSparse ? static_cast<double>(layer.block) * layer.top_blocks : 0;
  const double element = static_cast<double>(SizeOf(kv.dtype));
  const auto same = [&](const Attention& a) {
    return a.kind == each.kind && a.window == each.window && a.selected == each.selected;
  };
  auto group = std::find_if(attention_.begin(), attention_.end(), same);
  if (group == attention_.end()) group = attention_.insert(attention_.end(), each);
  group->flops_per_key += 2 * rank_heads * sizes;
  const double own_bytes = rank_kv_heads * sizes * element;
  (layer.kind == LayerKind::kFull ? group->selected_bytes : group->window_bytes) += own_bytes;
  if (layer.kind == LayerKind::kSparse) {
    const LayerSpec& oracle = spec.layers[static_cast<size_t>(layer.oracle)];
    group->selected_bytes +=
        kv.layers[static_cast<size_t>(layer.oracle)].kv_heads * element * (oracle.qk_dim + oracle.v_dim);
  }
}

double WorkModel::Reached(const PlannedChunk& chunk) const {
  const int32_t rows = chunk.tokens.size();
  if (chunk.write_from == 0 || rows == 0) return 1;
  double computed = 0;
  for (int32_t l = 0; l < layers_; ++l) {
    const int64_t first = chunk.write_from - rebuild_rows_[static_cast<size_t>(l)];
    computed += static_cast<double>(std::clamp<int64_t>(chunk.position + rows - first, 0, rows));
  }
  return computed / (static_cast<double>(layers_) * rows);
}

void WorkModel::AddChunk(const PlannedChunk& chunk, double reached, StepWork& work) const {
  const double count = chunk.tokens.size(), position = chunk.position, all = position + count;
  for (const Attention& layers : attention_) {
    double keys = 0, bytes = 0;
    if (layers.kind == LayerKind::kFull) {
      keys = KeysSeen(position, count, all);
      bytes = all * layers.selected_bytes;
    } else {
      keys = KeysSeen(position, count, layers.window) + KeysSeen(position, count, layers.selected);
      bytes = std::min(all, layers.window + count - 1) * layers.window_bytes +
              std::min(all, count * layers.selected) * layers.selected_bytes;
    }
    Work& part = count == 1 ? work.decode : layers.kind == LayerKind::kSparse ? work.sparse_prefill : work.full_prefill;
    part.flops += reached * keys * layers.flops_per_key;
    part.bytes += reached * bytes;
  }
}

StepWork WorkModel::Of(const StepPlan& plan) const {
  StepWork work;
  double tokens = 0;
  for (const PlannedChunk& chunk : plan.chunks) {
    const double reached = Reached(chunk);
    tokens += reached * chunk.tokens.size();
    AddChunk(chunk, reached, work);
  }
  if (!plan.chunks.empty()) {
    const double rows = static_cast<double>(plan.rows.size());
    work.dense.bytes = (dense_weights_ + (rows > 0 ? head_weights_ : 0)) * weight_bytes_;
    work.dense.flops = 2 * (tokens * dense_weights_ + rows * head_weights_);
  }
  if (expert_weights_ > 0 && tokens > 0) {
    const double reached = experts_ * (1 - std::pow(1 - active_experts_ / experts_, tokens));
    work.experts.bytes = reached * expert_weights_ * weight_bytes_;
    work.experts.flops = 2 * tokens * active_experts_ * expert_weights_;
  }
  if (ranks_ > 1) work.reduced_bytes = 2 * layers_ * tokens * hidden_ * weight_bytes_;
  const auto bytes_of = [&](const std::vector<PageCopy>& copies) {
    double bytes = 0;
    for (const PageCopy& copy : copies) {
      bytes += copy.kv_class == KvClass::kGlobal ? global_page_bytes_ : window_page_bytes_;
    }
    return bytes;
  };
  work.moved_bytes = bytes_of(plan.moves);
  work.host_bytes = bytes_of(plan.spills) + bytes_of(plan.returns);
  return work;
}

double WorkModel::Seconds(const StepWork& work, const DeviceModel& device) const {
  double seconds = device.step_overhead + 2 * work.moved_bytes / device.bandwidth;
  for (const Work& part : {work.dense, work.experts}) seconds += Roofline(part, device.bandwidth, device.gemm_flops);
  for (const Work& part : {work.decode, work.full_prefill}) {
    seconds += Roofline(part, device.bandwidth, device.attention_flops);
  }
  seconds += Roofline(work.sparse_prefill, device.bandwidth, device.sparse_flops);
  if (ranks_ > 1) seconds += 2 * layers_ * device.all_reduce_latency + work.reduced_bytes / device.link_bandwidth;
  return std::max(seconds, work.host_bytes / device.host_bandwidth);
}

}  // namespace hysparse
