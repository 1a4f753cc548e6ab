// Detokenizer: the text of a growing token sequence, piece by piece. The concatenation of all pieces equals
// Tokenizer::Decode of all ids; a piece is always valid UTF-8 and an incomplete character is held back. One per choice,
// used by one thread at a time. Each Append costs amortised O(1) tokens, not O(sequence). Ids that the tokenizer does
// not know decode to nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "engine/text/tokenizer.h"

namespace hysparse {

class Detokenizer {
 public:
  Detokenizer(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special_tokens);
  std::string Append(int32_t id);
  std::string Finish();  // what was held back, with U+FFFD for what never became a character

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  bool skip_special_;
  std::unique_ptr<DecodeStream> stream_;
};

}  // namespace hysparse
