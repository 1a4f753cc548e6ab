// Tokenizer: tokenizer.json as the `tokenizers` library (0.23) runs it: added tokens are cut out of the text, the rest
// is normalised, cut into words and encoded by BPE. Immutable after Load, so any
// number of threads may use one; never called on the engine thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/text/decoder.h"

namespace hysparse {

// A piece of a prompt. Chat templates yield trusted text (special tokens are recognised) and message content (they are
// not).
struct TextSegment {
  std::string text;
  bool trusted = true;
};

class Tokenizer {
 public:
  // Reads FOLDER/tokenizer.json. InvalidArgument names the file and the part that is unsupported or broken.
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> Load(const std::string& folder);
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> Parse(std::string_view json, std::string_view name);
  virtual ~Tokenizer() = default;

  // `text` must be valid UTF-8 of at most kMaxTextBytes (InvalidArgument otherwise). With add_special_tokens the
  // post-processor's tokens are added. ResourceExhausted when a regex of the tokenizer ran past its step limit.
  static constexpr size_t kMaxTextBytes = size_t{64} << 20;
  virtual absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text, bool add_special_tokens) const = 0;
  // One prompt made of segments, tokenised as the joined text, with one exception: an added token with "special": true
  // is recognised only where all of its bytes are trusted (it may lie across neighbouring trusted segments). Added
  // tokens that are not special are text, and recognised everywhere. The post-processor adds nothing.
  virtual absl::StatusOr<std::vector<int32_t>> EncodeSegments(std::span<const TextSegment> segments) const = 0;
  virtual std::string Decode(std::span<const int32_t> ids, bool skip_special_tokens) const = 0;
  // Decoding of one sequence, token by token (TokenText); Detokenizer drives it.
  virtual std::unique_ptr<DecodeStream> StartDecoding() const = 0;

  // The raw bytes a token stands for (may be an incomplete UTF-8 sequence); empty for unknown ids. For logprobs'
  // `bytes`.
  virtual std::string TokenBytes(int32_t id) const = 0;
  virtual std::string TokenText(int32_t id) const = 0;        // the vocabulary's own spelling; "" when unknown
  virtual int32_t TokenId(std::string_view token) const = 0;  // -1 when unknown
  virtual bool Knows(int32_t id) const = 0;
  virtual bool IsSpecial(int32_t id) const = 0;  // skipped by skip_special_tokens
  virtual int32_t vocab_size() const = 0;        // with added tokens: highest id + 1
};

}  // namespace hysparse
