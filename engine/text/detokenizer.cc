#include "engine/text/detokenizer.h"

#include <utility>

namespace hysparse {

Detokenizer::Detokenizer(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special_tokens)
    : tokenizer_(std::move(tokenizer)), skip_special_(skip_special_tokens), stream_(tokenizer_->StartDecoding()) {}

std::string Detokenizer::Append(int32_t id) {
  if (!tokenizer_->Knows(id) || (skip_special_ && tokenizer_->IsSpecial(id))) return "";
  return stream_->Append(tokenizer_->TokenText(id));
}

std::string Detokenizer::Finish() { return stream_->Finish(); }

}  // namespace hysparse
