#include "server/cli/arena.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/cli/format.h"
#include "server/cli/option_values.h"

namespace hysparse {
namespace {

// What one sequence of `tokens` tokens holds while it decodes.
int64_t SequenceBytes(const KvLayout& layout, int64_t tokens) {
  return layout.global.MaxPages(tokens, 1) * layout.global.page_bytes() +
         layout.window.MaxPages(tokens, 1) * layout.window.page_bytes();
}

// The longest sequence, at most `limit` tokens, that fits.
int64_t LongestSequence(const KvLayout& layout, int64_t memory, int64_t limit) {
  int64_t fits = 0, too_long = limit + 1;
  while (too_long - fits > 1) {
    const int64_t middle = fits + (too_long - fits) / 2;
    (SequenceBytes(layout, middle) <= memory ? fits : too_long) = middle;
  }
  return fits;
}

absl::StatusOr<int32_t> Length(const KvLayout& layout, const ArenaRequest& request) {
  if (request.max_model_len > request.model_limit) {
    return absl::InvalidArgumentError(absl::StrCat("--max-model-len ", request.max_model_len, " is beyond the model's ",
                                                   request.model_limit, " tokens; lower it"));
  }
  const int64_t longest = LongestSequence(layout, request.memory, request.model_limit);
  if (longest == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("no memory is left for the KV cache (", FormatSize(request.memory),
                     "); give some with --kv-cache-memory SIZE, or raise --gpu-memory-utilization"));
  }
  if (request.max_model_len > longest) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--max-model-len ", request.max_model_len, " needs ", FormatSize(SequenceBytes(layout, request.max_model_len)),
        " of KV cache and there are ", FormatSize(request.memory), ": at most ", GroupDigits(longest),
        " tokens fit; lower it, or raise --kv-cache-memory or --gpu-memory-utilization"));
  }
  return static_cast<int32_t>(request.max_model_len > 0 ? request.max_model_len : longest);
}

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

absl::StatusOr<Arena> DivideArena(const KvLayout& layout, const ArenaRequest& request) {
  Arena arena;
  if (auto length = Length(layout, request); length.ok()) {
    arena.max_model_len = *length;
  } else {
    return length.status();
  }
  const int64_t sequences = request.max_num_seqs;
  const int64_t global_each = layout.global.MaxPages(arena.max_model_len, 1);
  const int64_t window_each = layout.window.MaxPages(arena.max_model_len, 1);
  const int64_t window_bytes = window_each * layout.window.page_bytes();
  const int64_t longest_fit = std::min(sequences, request.memory / SequenceBytes(layout, arena.max_model_len));

  // Windows first: for every sequence that may run, as far as they take half of the memory at most or as many sequences
  // as fit at full length need them. The rest is global pages, which short sequences share in any number.
  int64_t windows = 0;
  if (window_bytes > 0) {
    windows = std::clamp(request.memory / 2 / window_bytes, std::max<int64_t>(1, longest_fit), sequences);
    arena.window_pages = windows * window_each;
  }
  int64_t left = request.memory - windows * window_bytes;
  if (layout.global.layers > 0) {
    arena.global_pages = std::min(sequences * global_each, left / layout.global.page_bytes());
    left -= arena.global_pages * layout.global.page_bytes();
  }
  if (window_bytes > 0) {  // room for the tokens of a prefill chunk beyond the windows
    const int64_t chunk = CeilDiv(request.max_num_batched_tokens, layout.window.page_tokens);
    arena.window_pages += std::min(chunk, left / layout.window.page_bytes());
  }
  return arena;
}

}  // namespace hysparse
