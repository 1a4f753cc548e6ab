// What a step costs on a GPU that is not there: FLOPs and bytes of a StepPlan, one rank's share, and the seconds they
// take by a roofline per part. Pure arithmetic on a ModelSpec; any thread.
//
// Weights are read once a step, of a MoE layer the experts that B tokens are expected to reach, E (1 - (1 - k / E)^B).
// A decode reads its whole context in full layers, the window in SWA layers, window and selected blocks in sparse ones;
// so does a prefill chunk, whose queries share what they read. A rebuild's rows count in the layers that they reach.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/kv/residency.h"
#include "engine/model/model_spec.h"
#include "engine/schedule/step_plan.h"

namespace hysparse {

// One GPU of the kind that is simulated; the defaults are an H200 as measured (docs/simulator.md). Bytes/s and FLOP/s.
struct DeviceModel {
  double bandwidth = 3.9e12;          // of reads
  double gemm_flops = 797e12;         // bf16
  double attention_flops = 600e12;    // of a dense prefill
  double sparse_flops = 200e12;       // of a prefill over selected blocks
  double step_overhead = 0.9e-3;      // seconds
  double all_reduce_latency = 20e-6;  // seconds, of each of the two all-reduces of a layer
  double link_bandwidth = 300e9;      // between GPUs
  double host_bandwidth = 50e9;       // to the host, beside the step
};

struct Work {
  double bytes = 0, flops = 0;
};

// One rank's share of a step.
struct StepWork {
  Work dense;                // projections, dense MLPs, routers and the output matrix
  Work experts;              // routed ones
  Work decode;               // attention of chunks of one token
  Work full_prefill;         // attention of longer chunks: in full and in SWA layers
  Work sparse_prefill;       // likewise in sparse layers, window and blocks
  double reduced_bytes = 0;  // of activations, over the links
  double moved_bytes = 0;    // pages copied on the device
  double host_bytes = 0;     // spilled or returned
};

class WorkModel {
 public:
  // Weights of `weight_bytes` bytes an element, shared by `tensor_parallel` ranks; `kv` is a rank's.
  WorkModel(const ModelSpec& spec, const KvLayout& kv, int32_t tensor_parallel, double weight_bytes = 2);

  StepWork Of(const StepPlan& plan) const;
  double Seconds(const StepWork& work, const DeviceModel& device) const;

  // Bytes of a rank's weights.
  double WeightBytes() const { return resident_weights_ * weight_bytes_; }

 private:
  // Layers whose attention reads alike.
  struct Attention {
    LayerKind kind = LayerKind::kFull;
    double window = 0, selected = 0;              // keys at most; full layers: all
    double flops_per_key = 0;                     // of a query
    double window_bytes = 0, selected_bytes = 0;  // a key; full layers: selected_bytes
  };

  void AddLayer(const ModelSpec& spec, const LayerSpec& layer, const KvLayout& kv, size_t index);
  void AddChunk(const PlannedChunk& chunk, double reached, StepWork& work) const;
  // The share of all layers that the chunk's rows are computed in.
  double Reached(const PlannedChunk& chunk) const;

  double ranks_, weight_bytes_;
  int32_t layers_ = 0;
  double hidden_ = 0;
  double dense_weights_ = 0, resident_weights_ = 0;  // a rank's; dense: read every step
  double head_weights_ = 0;                          // the output matrix, for each row of logits
  double expert_weights_ = 0;                        // one expert of every MoE layer, a rank's
  double experts_ = 0, active_experts_ = 0;
  std::vector<Attention> attention_;
  std::vector<int64_t> rebuild_rows_;
  double global_page_bytes_ = 0, window_page_bytes_ = 0;
};

}  // namespace hysparse
