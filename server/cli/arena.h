// How much KV cache a server has and how long its sequences may be: the device's arena, the host's and the context that
// fits. Pure arithmetic on the layout of engine/kv; any thread.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "engine/kv/arena_layout.h"
#include "engine/kv/room.h"

namespace hysparse {

struct ArenaRequest {
  int64_t memory = 0;         // bytes that the device's arena may take
  int64_t host_memory = 0;    // bytes for spilled pages
  int32_t max_model_len = 0;  // as asked for; 0: what fits, at most `model_limit`
  int32_t model_limit = 0;    // the model's max_context
};

struct KvArenas {
  ArenaLayout device, host;  // host without slabs: nothing can be spilled
  int32_t max_model_len = 0;
};

// InvalidArgument, with the numbers, when one sequence of the length asked for does not fit, the length is beyond the
// model, or the host memory does not hold a page.
absl::StatusOr<KvArenas> MakeArenas(const KvLayout& layout, const ArenaRequest& request);

}  // namespace hysparse
