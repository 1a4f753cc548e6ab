// How the KV arena is divided: equal slabs, each handed as a whole to one KV class and cut into that class's pages. A
// class's pages lie at base + id * page_stride, whichever slabs it owns, so that one tensor map reaches all of them: a
// slab is a whole number of either class's strides. Pure arithmetic on a KvLayout; any thread.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "engine/kv/residency.h"

namespace hysparse {

struct ArenaClassLayout {
  int32_t pages_per_slab = 0;  // 0: the class has no layers
  int64_t page_stride = 0;     // bytes, >= page_bytes: what a page takes of the arena
  int64_t page_bytes = 0;      // what it uses
};

struct ArenaLayout {
  int64_t slab_bytes = 0;
  int32_t slabs = 0;
  ArenaClassLayout global, window;

  const ArenaClassLayout& of(KvClass kv_class) const { return kv_class == KvClass::kGlobal ? global : window; }
  int64_t bytes() const { return slab_bytes * slabs; }
  // Ids are below this; a slab's pages of class c are slab * pages_per_slab … .
  int32_t page_ids(KvClass kv_class) const { return of(kv_class).pages_per_slab * slabs; }
};

// The most of `bytes` that slabs can use: slabs are as small as a waste of at most 0.1 % allows, or else waste as
// little as can be, and are at least 64 where pages are small enough. InvalidArgument, with the numbers, when not one
// page of each class fits.
absl::StatusOr<ArenaLayout> MakeArenaLayout(const KvLayout& layout, int64_t bytes);

}  // namespace hysparse
