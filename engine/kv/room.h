// KvRoom: what an arena could still give, as plain data: behind admission, the sessions that start-up summary, `plan`
// and metrics count, and the capacity quote. Pure arithmetic; any thread.
#pragma once

#include <cstdint>

#include "engine/kv/arena_layout.h"

namespace hysparse {

// Pages of each class.
struct PageNeed {
  int64_t global = 0, window = 0;
};

// The pages of a sequence of `tokens` tokens that grew by one token a step.
inline PageNeed NeedOf(const KvLayout& layout, int64_t tokens) {
  return {layout.global.MaxPages(tokens, 1), layout.window.MaxPages(tokens, 1)};
}

struct KvRoom {
  int64_t unassigned_slabs = 0;
  // Pages of each class in its own slabs that are free or could be evicted, less those promised.
  int64_t global_spare = 0, window_spare = 0;
  int64_t global_per_slab = 0, window_per_slab = 0;

  // Whether so many pages can be had, by evicting and by emptying slabs of the other class if need be.
  bool CanProvide(const PageNeed& need) const;
  // How many times it can.
  int64_t Times(const PageNeed& each) const;
};

// An arena that nobody uses.
KvRoom EmptyRoom(const ArenaLayout& arena);

}  // namespace hysparse
