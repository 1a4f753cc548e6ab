// Normalizer: the "normalizer" of tokenizer.json, which rewrites the text between added tokens before it is cut into
// words. Immutable; any thread. Errors: ResourceExhausted when a regex gives up.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/text/json_view.h"

namespace hysparse {

struct NormalizedText {
  std::string text;
  // Bytes at the start that come from the first character of the user's text (0: none do).
  size_t origin_bytes = 0;
  // Per byte of `text`, 1 when it comes from untrusted text; empty when nobody asks or all of it is trusted.
  std::vector<uint8_t> untrusted;
};

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual absl::Status Apply(NormalizedText& text) const = 0;

  // `json` is the "normalizer" component, not null.
  static absl::StatusOr<std::unique_ptr<const Normalizer>> Parse(const JsonView& json);
};

}  // namespace hysparse
