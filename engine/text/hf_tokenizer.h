// HfTokenizer: the Tokenizer that tokenizer.json describes. Immutable and shared; the buffers of an encoding come from
// a pool, so at most as many exist as encodings ran at the same time.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "engine/text/added_tokens.h"
#include "engine/text/bpe.h"
#include "engine/text/decoder.h"
#include "engine/text/normalizer.h"
#include "engine/text/post_processor.h"
#include "engine/text/pre_tokenizer.h"
#include "engine/text/tokenizer.h"

namespace hysparse {

class HfTokenizer : public Tokenizer {
 public:
  // `json` is the whole document.
  static absl::StatusOr<std::shared_ptr<const HfTokenizer>> Build(const JsonView& json);

  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text, bool add_special_tokens) const override;
  absl::StatusOr<std::vector<int32_t>> EncodeSegments(std::span<const TextSegment> segments) const override;
  std::string Decode(std::span<const int32_t> ids, bool skip_special_tokens) const override;
  std::unique_ptr<DecodeStream> StartDecoding() const override { return decoder_->Start(); }
  std::string TokenBytes(int32_t id) const override;
  std::string TokenText(int32_t id) const override;
  int32_t TokenId(std::string_view token) const override;
  bool Knows(int32_t id) const override;
  bool IsSpecial(int32_t id) const override;
  int32_t vocab_size() const override { return static_cast<int32_t>(special_.size()); }

 private:
  HfTokenizer() = default;
  absl::Status ReadComponents(const JsonView& json);
  void IndexAddedTokens();

  // `untrusted` flags each byte of `text`; empty: all of it is trusted.
  absl::StatusOr<std::vector<int32_t>> EncodeText(std::string_view text, const std::vector<uint8_t>& untrusted) const;
  absl::Status EncodeBetweenTokens(std::string_view text, size_t begin, size_t end,
                                   const std::vector<uint8_t>& untrusted, BpeScratch& scratch,
                                   std::vector<int32_t>& ids) const;
  absl::Status EncodePlain(NormalizedText text, BpeScratch& scratch, std::vector<int32_t>& ids) const;

  std::unique_ptr<BpeScratch> TakeScratch() const;
  void GiveBack(std::unique_ptr<BpeScratch> scratch) const;

  std::unique_ptr<const Normalizer> normalizer_;  // may be null
  std::unique_ptr<PreTokenizer> pre_tokenizer_;   // may be null
  bool raw_bytes_ = false;                        // the pre-tokenizer's words are bytes, not yet in the byte alphabet
  std::unique_ptr<const Bpe> model_;
  PostProcessor post_processor_;
  std::unique_ptr<const Decoder> decoder_;
  AddedTokens added_;
  absl::flat_hash_map<int32_t, std::string> added_text_;  // what an added token is to the decoder
  absl::flat_hash_map<std::string, int32_t> added_ids_;
  std::vector<bool> special_;  // by id

  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<BpeScratch>> idle_;  // guarded by mutex_
};

}  // namespace hysparse
