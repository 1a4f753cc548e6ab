// str.format: "{} {0.name[key]!r:>10}". Text keeps its provenance. One thread.
#pragma once

#include "absl/status/statusor.h"
#include "server/chat/jinja/evaluator.h"
#include "server/chat/jinja/text.h"

namespace hysparse::jinja {

absl::StatusOr<Text> FormatBraces(Evaluator& evaluator, const Text& format, const Args& args);

}  // namespace hysparse::jinja
