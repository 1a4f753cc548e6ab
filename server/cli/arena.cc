#include "server/cli/arena.h"

#include "absl/strings/str_cat.h"
#include "engine/base/result.h"
#include "server/cli/format.h"
#include "server/cli/option_values.h"

namespace hysparse {
namespace {

// The longest sequence, at most `limit` tokens, that fits.
int64_t LongestSequence(const KvLayout& layout, const ArenaLayout& arena, int64_t limit) {
  const KvRoom room = EmptyRoom(arena);
  int64_t fits = 0, too_long = limit + 1;
  while (too_long - fits > 1) {
    const int64_t middle = fits + (too_long - fits) / 2;
    (room.CanProvide(NeedOf(layout, middle)) ? fits : too_long) = middle;
  }
  return fits;
}

int64_t SequenceBytes(const KvLayout& layout, const ArenaLayout& arena, int64_t tokens) {
  const PageNeed need = NeedOf(layout, tokens);
  return need.global * arena.global.page_stride + need.window * arena.window.page_stride;
}

absl::StatusOr<ArenaLayout> DeviceArena(const KvLayout& layout, int64_t memory) {
  absl::StatusOr<ArenaLayout> arena = MakeArenaLayout(layout, memory);
  if (arena.ok()) return arena;
  return absl::InvalidArgumentError(absl::StrCat(
      memory <= 0 ? "no memory is left for the KV cache" : "too little memory is left for the KV cache", ": ",
      arena.status().message(), ", with --kv-cache-memory SIZE or a higher --gpu-memory-utilization"));
}

}  // namespace

absl::StatusOr<KvArenas> MakeArenas(const KvLayout& layout, const ArenaRequest& request) {
  if (request.max_model_len > request.model_limit) {
    return absl::InvalidArgumentError(absl::StrCat("--max-model-len ", request.max_model_len, " is beyond the model's ",
                                                   request.model_limit, " tokens; lower it"));
  }
  KvArenas arenas;
  HYSPARSE_ASSIGN_OR_RETURN(arenas.device, DeviceArena(layout, request.memory));
  const int64_t longest = LongestSequence(layout, arenas.device, request.model_limit);
  if (request.max_model_len > longest) {
    return absl::InvalidArgumentError(
        absl::StrCat("--max-model-len ", request.max_model_len, " needs ",
                     FormatSize(SequenceBytes(layout, arenas.device, request.max_model_len)),
                     " of KV cache and there are ", FormatSize(request.memory), ": at most ", GroupDigits(longest),
                     " tokens fit; lower it, or raise --kv-cache-memory or --gpu-memory-utilization"));
  }
  arenas.max_model_len = static_cast<int32_t>(request.max_model_len > 0 ? request.max_model_len : longest);
  if (request.host_memory == 0) return arenas;
  absl::StatusOr<ArenaLayout> host = MakeArenaLayout(layout, request.host_memory);
  if (!host.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--kv-host-memory ", FormatSize(request.host_memory), ": ",
                                                   host.status().message(), ", or 0 for none"));
  }
  arenas.host = *host;
  return arenas;
}

}  // namespace hysparse
