// The five ways a delimiter's matches cut text. Any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/text/json_view.h"
#include "engine/text/pre_tokenizer.h"
#include "engine/text/regex.h"

namespace hysparse {

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

// json["behavior"]
absl::StatusOr<SplitBehavior> ParseSplitBehavior(const JsonView& json);

// Appends the words that `matches` (covering `span` in order, relative to its begin) cut `span` into.
void CutSpan(const Span& span, const std::vector<Match>& matches, SplitBehavior behavior, std::vector<Span>& words);

}  // namespace hysparse
