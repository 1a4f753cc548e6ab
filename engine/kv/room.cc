#include "engine/kv/room.h"

namespace hysparse {
namespace {

// Whole slabs that a class can give up, or lacks when negative.
int64_t SlabsOf(int64_t spare, int64_t per_slab) {
  if (per_slab == 0) return spare < 0 ? INT64_MIN / 4 : 0;
  return spare >= 0 ? spare / per_slab : -((-spare + per_slab - 1) / per_slab);
}

}  // namespace

bool KvRoom::CanProvide(const PageNeed& need) const {
  return unassigned_slabs + SlabsOf(global_spare - need.global, global_per_slab) +
             SlabsOf(window_spare - need.window, window_per_slab) >=
         0;
}

int64_t KvRoom::Times(const PageNeed& each) const {
  if (each.global + each.window == 0) return 0;
  int64_t fits = 0, too_many = 1;
  const auto provides = [&](int64_t times) { return CanProvide({each.global * times, each.window * times}); };
  while (provides(too_many) && too_many < INT32_MAX) too_many *= 2;
  while (too_many - fits > 1) {
    const int64_t middle = fits + (too_many - fits) / 2;
    (provides(middle) ? fits : too_many) = middle;
  }
  return fits;
}

KvRoom EmptyRoom(const ArenaLayout& arena) {
  return {arena.slabs, 0, 0, arena.global.pages_per_slab, arena.window.pages_per_slab};
}

}  // namespace hysparse
