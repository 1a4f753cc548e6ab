#include "server/cli/capacity.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/cli/format.h"

namespace hysparse {
namespace {

// Page sizes are in tokens and do not depend on the element, so that bytes scale with it: all is laid out at two bytes.
constexpr int64_t kLaidOutBytes = 2;

KvLayout Layout(const ModelSpec& spec) { return MakeKvLayout(spec, DType::kBF16); }

}  // namespace

Sessions SessionsThatFit(const ModelSpec& spec, int64_t element_bytes, int64_t memory, int64_t context) {
  constexpr int64_t kPage = 64;
  const int64_t whole = (context + kPage - 1) / kPage * kPage;
  const int64_t full = FullAttentionBytes(spec, whole, element_bytes);
  const KvLayout layout = Layout(spec);
  const auto arena = MakeArenaLayout(layout, memory * kLaidOutBytes / element_bytes);
  return {context, arena.ok() ? EmptyRoom(*arena).Times(NeedOf(layout, context)) : 0, full == 0 ? 0 : memory / full};
}

KvBytes AllocatedBytes(const ModelSpec& spec, int64_t element_bytes, int64_t tokens) {
  const KvBytes bytes = Layout(spec).AllocatedBytes(tokens);
  return {bytes.global * element_bytes / kLaidOutBytes, bytes.window * element_bytes / kLaidOutBytes};
}

std::string LayersByKind(const ModelSpec& spec) {
  std::vector<std::string> kinds;
  for (const auto& [kind, name] :
       {std::pair{LayerKind::kFull, "full"}, {LayerKind::kSwa, "sliding-window"}, {LayerKind::kSparse, "sparse"}}) {
    if (const int count = spec.CountLayers(kind)) kinds.push_back(absl::StrCat(count, " ", name));
  }
  return absl::StrCat(spec.layers.size(), " layers: ", absl::StrJoin(kinds, ", "));
}

std::string HeadsAndSizes(const ModelSpec& spec) {
  const LayerSpec& layer = spec.layers.front();
  std::string text =
      absl::StrCat("hidden ", spec.hidden, ", ", layer.heads, "/", layer.kv_heads, " heads of ", layer.qk_dim);
  if (layer.v_dim != layer.qk_dim) absl::StrAppend(&text, "/", layer.v_dim);
  if (spec.moe.experts) {
    absl::StrAppend(&text, ", ", spec.moe.experts, " experts (", spec.moe.experts_per_token, " active)");
  }
  return text;
}

std::string KvCacheLine(const ModelSpec& spec, int64_t element_bytes, int64_t memory, int64_t tokens,
                        int64_t max_model_len) {
  const int64_t context = std::min<int64_t>(131072, max_model_len);
  const Sessions sessions = SessionsThatFit(spec, element_bytes, memory, context);
  return absl::StrCat("KV cache: ", GroupDigits(tokens), " tokens; ", GroupDigits(context),
                      "-token sessions that fit: ", GroupDigits(sessions.fit), " (full attention would fit ",
                      GroupDigits(sessions.full_attention), ")");
}

}  // namespace hysparse
