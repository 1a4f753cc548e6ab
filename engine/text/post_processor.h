// PostProcessor: the "post_processor" of tokenizer.json for one sequence: special tokens around the ids (Llama-3's
// BOS). What it does to offsets does not concern us. Immutable; any thread.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/text/json_view.h"

namespace hysparse {

class PostProcessor {
 public:
  // `json` is the "post_processor" component, null included (nothing is added).
  static absl::StatusOr<PostProcessor> Parse(const JsonView& json);

  std::vector<int32_t> Apply(std::vector<int32_t> ids, bool add_special_tokens) const;

 private:
  struct Part {
    bool is_sequence;  // the ids themselves, otherwise `tokens`
    std::vector<int32_t> tokens;
  };
  absl::Status Add(const JsonView& json);
  absl::Status AddTemplate(const JsonView& json);
  absl::Status AddBert(const JsonView& json);

  std::vector<Part> parts_;  // empty: the ids as they are
};

}  // namespace hysparse
