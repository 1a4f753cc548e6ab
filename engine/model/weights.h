// Weights: a model's parameters on the device, packed once: q, k, v and the gates of a layer fused into one matrix,
// norms, biases, sinks and routers in fp32, the embedding in the checkpoint's dtype. Immutable after loading; shared by
// the ranks' transformers. Every name and shape is checked before any memory is allocated.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/checkpoint.h"
#include "engine/model/model_spec.h"
#include "kernels/ops.h"

namespace hysparse {

using DeviceFloats = std::shared_ptr<const float>;

struct LayerWeights {
  DeviceFloats input_norm, post_norm;                  // [H]
  std::unique_ptr<PackedMatrix> qkv;                   // rows: q, k, v, gate, sparse gate (those the layer has)
  DeviceFloats qkv_bias;                               // [qkv rows], zero under the gates; null without bias
  DeviceFloats q_norm, k_norm;                         // [D] or null
  DeviceFloats inv_freq;                               // [rotary_dim / 2], shared by layers of equal RoPE
  DeviceFloats sink, sparse_sink;                      // [N] or null
  std::unique_ptr<PackedMatrix> o;                     // [H, N * E]
  DeviceFloats o_bias;                                 // [H] or null
  std::unique_ptr<PackedMatrix> gate, up, down;        // dense MLP, or the shared experts of a MoE layer; null without
  DeviceFloats gate_bias, up_bias, down_bias;          // or null
  DeviceFloats router, router_bias;                    // [experts, H] fp32, [experts]; null in a dense layer
  std::vector<std::unique_ptr<PackedMatrix>> experts;  // gate, up and down, owned
  std::vector<const PackedMatrix*> expert_gate, expert_up, expert_down;  // [experts]
};

struct Weights {
  std::shared_ptr<const std::byte> embedding;  // [V, H]
  DType embedding_dtype = DType::kF32;
  std::vector<LayerWeights> layers;
  DeviceFloats final_norm;                // [H]
  std::unique_ptr<PackedMatrix> lm_head;  // [V, H]
  std::vector<std::string> unused;        // tensors of the checkpoint that nothing reads: worth one warning
  int64_t parameters = 0;
};

// Called with the fraction done, 0 … 1, on the loading thread.
using LoadProgress = std::function<void(double)>;

// Loads a checkpoint. The checkpoint may be closed afterwards.
absl::StatusOr<Weights> LoadWeights(const ModelSpec& spec, const Checkpoint& checkpoint, Backend& backend,
                                    const LoadProgress& progress = nullptr);

// Seeded random weights for any spec, with no file read (--load-format dummy).
absl::StatusOr<Weights> MakeRandomWeights(const ModelSpec& spec, uint64_t seed, Backend& backend,
                                          const LoadProgress& progress = nullptr);

}  // namespace hysparse
