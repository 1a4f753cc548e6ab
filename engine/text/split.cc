#include "engine/text/split.h"

#include "absl/strings/str_cat.h"
#include "engine/base/result.h"

namespace hysparse {
namespace {

// Whether the part `next` continues the word that the part `previous` ends.
bool Joins(const Match& previous, const Match& next, SplitBehavior behavior) {
  switch (behavior) {
    case SplitBehavior::kContiguous:
      return previous.is_match == next.is_match;
    case SplitBehavior::kMergedWithPrevious:
      return next.is_match && !previous.is_match;
    case SplitBehavior::kMergedWithNext:
      return previous.is_match && !next.is_match;
    case SplitBehavior::kRemoved:
    case SplitBehavior::kIsolated:
      return false;
  }
  return false;
}

}  // namespace

absl::StatusOr<SplitBehavior> ParseSplitBehavior(const JsonView& json) {
  HYSPARSE_ASSIGN_OR_RETURN(const std::string name, json.String("behavior"));
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return json.Error(absl::StrCat("the behavior '", name, "' is unknown"));
}

void CutSpan(const Span& span, const std::vector<Match>& matches, SplitBehavior behavior, std::vector<Span>& words) {
  for (size_t i = 0; i < matches.size();) {
    size_t last = i;
    while (last + 1 < matches.size() && Joins(matches[last], matches[last + 1], behavior)) ++last;
    const bool dropped = behavior == SplitBehavior::kRemoved && matches[i].is_match;
    const auto begin = static_cast<uint32_t>(span.begin + matches[i].begin);
    const auto end = static_cast<uint32_t>(span.begin + matches[last].end);
    if (!dropped && begin < end) words.push_back({begin, end, span.at_start && begin == span.begin});
    i = last + 1;
  }
}

}  // namespace hysparse
