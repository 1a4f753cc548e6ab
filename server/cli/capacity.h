// Capacity: what of a model fits in how much KV memory, for `plan` and the start-up summary. All bytes come from
// engine/kv/residency; here they are only set side by side. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/kv/residency.h"
#include "engine/kv/room.h"
#include "engine/model/model_spec.h"

namespace hysparse {

// Sessions of `context` tokens that fit, beside those of the same model with full attention in every layer.
struct Sessions {
  int64_t context = 0, fit = 0, full_attention = 0;
};

// `element_bytes`: 1, 2 or 4 bytes a KV element; sessions are counted in whole pages.
Sessions SessionsThatFit(const ModelSpec& spec, int64_t element_bytes, int64_t memory, int64_t context);

// Bytes that a sequence of n tokens has allocated: whole pages.
KvBytes AllocatedBytes(const ModelSpec& spec, int64_t element_bytes, int64_t tokens);

std::string LayersByKind(const ModelSpec& spec);   // "49 layers: 5 full, 44 sparse"
std::string HeadsAndSizes(const ModelSpec& spec);  // "hidden 2048, 64/4 heads of 192/128, 512 experts (8 active)"

// "KV cache: N tokens; 131,072-token sessions that fit: X (full attention would fit Y)"
std::string KvCacheLine(const ModelSpec& spec, int64_t element_bytes, int64_t memory, int64_t tokens,
                        int64_t max_model_len);

}  // namespace hysparse
