// How the KV arena is divided: pages of each class for the sequences that shall run at once. Pure arithmetic on the
// layout of engine/kv/residency; any thread.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "engine/kv/residency.h"

namespace hysparse {

struct ArenaRequest {
  int64_t memory = 0;  // bytes that the arena may take
  int32_t max_num_seqs = 0;
  int32_t max_num_batched_tokens = 0;
  int32_t max_model_len = 0;  // as asked for; 0: what fits, at most `model_limit`
  int32_t model_limit = 0;    // the model's max_context
};

struct Arena {
  int64_t global_pages = 0, window_pages = 0;
  int32_t max_model_len = 0;
};

// No more pages than `max_num_seqs` sequences of `max_model_len` tokens can use. InvalidArgument, with the numbers,
// when one such sequence does not fit or the length is beyond the model.
absl::StatusOr<Arena> DivideArena(const KvLayout& layout, const ArenaRequest& request);

}  // namespace hysparse
