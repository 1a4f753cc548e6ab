// What admissions found in the prefix cache, counted since start. Plain data.
#pragma once

#include <cstdint>

namespace hysparse {

struct PrefixStats {
  int64_t queried_tokens = 0, hit_tokens = 0;  // hit: found in the cache
  int64_t rebuilt_tokens = 0;                  // of these, run again for their window K and V
  // Sequences, by what ended their prefix: nothing, tokens never seen, an evicted page; or why none was looked for.
  int64_t full_hits = 0, cold_misses = 0, evicted_misses = 0, short_prompts = 0, not_cached = 0;
};

}  // namespace hysparse
