// The steps a decoder is made of. See decoder.h for how they are driven; each factory's names are tokenizer.json's.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "engine/text/decoder.h"
#include "engine/text/json_view.h"

namespace hysparse {

// `fused`: the text that reaches the step is one token that arrives in fragments.
absl::StatusOr<std::unique_ptr<const DecodeStep>> ParseDecodeStep(const JsonView& json, bool fused);

// What the library does when a tokenizer has no decoder: tokens joined by one space.
std::unique_ptr<const DecodeStep> JoinBySpaces();

}  // namespace hysparse
