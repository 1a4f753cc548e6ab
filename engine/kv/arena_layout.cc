#include "engine/kv/arena_layout.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>

#include "absl/strings/str_cat.h"

namespace hysparse {
namespace {

constexpr int64_t kAlign = 64;        // bytes; a page starts on a cache line
constexpr int64_t kFewestSlabs = 64;  // so that what the last slab leaves over is under 2 % of the memory
constexpr int64_t kMostPages = 256;   // of the larger kind in a slab

// A slab of `big_pages` larger pages and as many smaller ones as fit, padded until both strides divide it.
struct Slab {
  int64_t bytes = 0, big_pages = 0, small_pages = 0;
  double waste = 1;
};

Slab MakeSlab(int64_t big, int64_t small, int64_t big_pages) {
  Slab slab;
  slab.big_pages = big_pages;
  slab.small_pages = big * big_pages / small;
  const int64_t multiple = kAlign * std::lcm(slab.big_pages, slab.small_pages);
  slab.bytes = (big * big_pages + multiple - 1) / multiple * multiple;
  const int64_t used = std::min(big * slab.big_pages, small * slab.small_pages);
  slab.waste = 1 - static_cast<double>(used) / static_cast<double>(slab.bytes);
  return slab;
}

// The smallest slab that wastes next to nothing, else the least wasteful one; of at most `most` bytes unless a single
// page is larger.
Slab ChooseSlab(int64_t big, int64_t small, int64_t most) {
  Slab best = MakeSlab(big, small, 1);
  for (int64_t pages = 2; pages <= kMostPages && best.waste > 0.001; ++pages) {
    const Slab slab = MakeSlab(big, small, pages);
    if (slab.bytes <= most && slab.waste < best.waste) best = slab;
  }
  return best;
}

ArenaClassLayout Cut(int64_t slab_bytes, int64_t pages, int64_t page_bytes) {
  if (page_bytes == 0) return {};
  return {static_cast<int32_t>(pages), slab_bytes / pages, page_bytes};
}

}  // namespace

absl::StatusOr<ArenaLayout> MakeArenaLayout(const KvLayout& layout, int64_t bytes) {
  const int64_t global = layout.global.page_bytes(), window = layout.window.page_bytes();
  const int64_t big = std::max(global, window), small = std::min(global, window);
  // A model of one class needs no slabs: each is a page.
  const Slab slab =
      small == 0 ? Slab{(big + kAlign - 1) / kAlign * kAlign, 1, 1, 0} : ChooseSlab(big, small, bytes / kFewestSlabs);
  ArenaLayout arena;
  arena.slab_bytes = slab.bytes;
  const int64_t slabs = slab.bytes > 0 ? bytes / slab.bytes : 0;
  if (slabs < (small == 0 ? 1 : 2)) {
    return absl::InvalidArgumentError(absl::StrCat(
        bytes, " bytes of KV cache hold not one page of each kind (global ", global, " bytes, window ", window,
        " bytes, in slabs of ", slab.bytes, "); give the KV cache at least ", (small == 0 ? 1 : 2) * slab.bytes));
  }
  if (slabs > std::numeric_limits<int32_t>::max() / std::max<int64_t>(1, slab.small_pages)) {
    return absl::InvalidArgumentError(
        absl::StrCat(bytes, " bytes of KV cache are more pages of ", small, " bytes than can be numbered"));
  }
  arena.slabs = static_cast<int32_t>(slabs);
  arena.global = Cut(slab.bytes, global == big ? slab.big_pages : slab.small_pages, global);
  arena.window = Cut(slab.bytes, global == big ? slab.small_pages : slab.big_pages, window);
  return arena;
}

}  // namespace hysparse
