// AddedTokens: the "added_tokens" of tokenizer.json and how they are found in text: leftmost-longest, first the tokens
// that match raw text, then, after normalisation of what is left, those that match normalised text. Immutable; any
// thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "engine/text/bpe.h"
#include "engine/text/json_view.h"
#include "engine/text/normalizer.h"

namespace hysparse {

struct AddedToken {
  std::string content;
  std::string pattern;  // what is searched: the content, normalised if `normalized`
  int32_t id;
  bool single_word, lstrip, rstrip, normalized, special;
};

// Bytes [begin, end) of a text: the added token `id`, or text between them (-1).
struct Piece {
  size_t begin, end;
  int32_t id;
};

// A trie over the patterns of one pass.
class TokenFinder {
 public:
  void Add(const AddedToken& token);

  // Appends the pieces of `text`. `untrusted` flags each byte (empty: all trusted): a special token is found only where
  // all its bytes are trusted; other tokens are found everywhere.
  void Find(std::string_view text, const std::vector<uint8_t>& untrusted, std::vector<Piece>& pieces) const;

  bool empty() const { return tokens_.empty(); }
  bool has_special() const { return has_special_; }

 private:
  struct Node {
    absl::flat_hash_map<unsigned char, int32_t> next;
    int32_t token = -1;
  };
  // The longest token that starts at `at`, or null.
  const AddedToken* LongestAt(std::string_view text, size_t at, const std::vector<uint8_t>& untrusted) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_ = std::vector<Node>(1);
  bool first_byte_[256] = {};
  bool has_special_ = false;
};

class AddedTokens {
 public:
  // `json` is the whole document; `normalizer` may be null.
  static absl::StatusOr<AddedTokens> Parse(const JsonView& json, const Bpe& model, const Normalizer* normalizer);

  const TokenFinder& raw() const { return raw_; }                // tokens with "normalized": false
  const TokenFinder& normalized() const { return normalized_; }  // and true
  const std::vector<AddedToken>& tokens() const { return tokens_; }

 private:
  std::vector<AddedToken> tokens_;
  TokenFinder raw_, normalized_;
};

}  // namespace hysparse
