// PreTokenizer: the "pre_tokenizer" of tokenizer.json. It cuts text into the words that the model then encodes one by
// one, and may rewrite the text on the way. Immutable; any thread. Errors: ResourceExhausted when a regex gives up.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/text/json_view.h"

namespace hysparse {

// A piece of text between added tokens, or a word of it. Bytes [begin, end) of WordList::text.
struct Span {
  uint32_t begin, end;
  bool at_start;  // it begins where the user's text begins (Metaspace's prepend_scheme "first" asks)
};

struct WordList {
  std::string text;
  std::vector<Span> spans;
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual absl::Status Apply(WordList& words) const = 0;

  // Asks for raw bytes instead of characters of the byte alphabet (byte_alphabet.h). True when this pre-tokenizer ends
  // in that alphabet and complies. Called once, before first use.
  virtual bool LeaveBytesRaw() { return false; }

  // `json` is the "pre_tokenizer" component, not null.
  static absl::StatusOr<std::unique_ptr<PreTokenizer>> Parse(const JsonView& json);
};

}  // namespace hysparse
