// Activations: every buffer that a forward pass writes, sized for the largest step and carved from one device
// allocation before readiness, so that no step allocates. Owned by one Transformer; used on its rank's thread.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "engine/model/model_spec.h"
#include "kernels/ops.h"

namespace hysparse {

// Letters as in kernels/params.h. "compute" buffers hold the backend's compute dtype, the others fp32 or int32.
struct Activations {
  float* residual = nullptr;          // [T, H] h
  float* delta = nullptr;             // [T, H] what a block adds to h; gathered rows
  void* x = nullptr;                  // [T, H] compute: rms_norm(h)
  float* x_fp32 = nullptr;            // [T, H] the same in fp32, for routers; x itself when compute is fp32
  float* qkv = nullptr;               // [T, widest fused projection]
  float* attn = nullptr;              // [T, N * E] of the full, SWA or window branch, before its gate
  float* attn_sparse = nullptr;       // [T, N * E] of the sparse branch
  void* attn_out = nullptr;           // [T, N * E] compute: input of o_proj
  void* act = nullptr;                // [T, widest MLP] compute
  int32_t* block_ids = nullptr;       // [T, G, K] of the current oracle
  int32_t* block_counts = nullptr;    // [T, G]
  int32_t* kept_block_ids = nullptr;  // where they go when a batch shrinks
  int32_t* kept_block_counts = nullptr;
  int32_t* expert_ids = nullptr;    // [T, top]
  float* expert_weights = nullptr;  // [T, top]
  float* logits = nullptr;          // [logit_rows, V]
  int32_t max_tokens = 0, logit_rows = 0;
  OpContext context;  // with the ops' workspace
  int64_t bytes = 0;  // of the allocation
  std::shared_ptr<std::byte> memory;

  // InvalidArgument when the sizes overflow; the backend's error when it has not enough memory.
  static absl::StatusOr<Activations> Make(const ModelSpec& spec, Backend& backend, int32_t max_tokens,
                                          int32_t max_context);
};

}  // namespace hysparse
