#include "engine/text/added_tokens.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "engine/base/result.h"
#include "engine/text/unicode.h"
#include "engine/text/utf8.h"

namespace hysparse {
namespace {

bool StandsAlone(std::string_view text, size_t begin, size_t end) {
  size_t before = begin, after = end;
  if (begin > 0 && IsWord(DecodeUtf8Before(text, before))) return false;
  return end == text.size() || !IsWord(DecodeUtf8(text, after));
}

size_t SpaceBefore(std::string_view text, size_t at, size_t limit) {
  for (size_t start = at; start > limit; at = start) {
    if (!IsWhitespace(DecodeUtf8Before(text, start))) break;
  }
  return at;
}

size_t SpaceBehind(std::string_view text, size_t at) {
  for (size_t next = at; next < text.size(); at = next) {
    if (!IsWhitespace(DecodeUtf8(text, next))) break;
  }
  return at;
}

absl::StatusOr<AddedToken> ParseToken(const JsonView& json, const Normalizer* normalizer) {
  AddedToken token;
  HYSPARSE_ASSIGN_OR_RETURN(token.content, json.String("content"));
  HYSPARSE_ASSIGN_OR_RETURN(token.id, json.Id("id"));
  HYSPARSE_ASSIGN_OR_RETURN(token.single_word, json.Bool("single_word"));
  HYSPARSE_ASSIGN_OR_RETURN(token.lstrip, json.Bool("lstrip"));
  HYSPARSE_ASSIGN_OR_RETURN(token.rstrip, json.Bool("rstrip"));
  HYSPARSE_ASSIGN_OR_RETURN(token.normalized, json.Bool("normalized"));
  HYSPARSE_ASSIGN_OR_RETURN(token.special, json.Bool("special"));
  token.pattern = token.content;
  if (token.normalized && normalizer != nullptr) {
    NormalizedText text{token.content, 0, {}};
    HYSPARSE_RETURN_IF_ERROR(json.At(normalizer->Apply(text)));
    token.pattern = text.text;
  }
  return token;
}

}  // namespace

void TokenFinder::Add(const AddedToken& token) {
  if (token.pattern.empty()) return;
  size_t node = 0;
  for (const char c : token.pattern) {
    const auto [found, inserted] =
        nodes_[node].next.try_emplace(static_cast<unsigned char>(c), static_cast<int32_t>(nodes_.size()));
    node = static_cast<size_t>(found->second);
    if (inserted) nodes_.emplace_back();
  }
  nodes_[node].token = static_cast<int32_t>(tokens_.size());
  tokens_.push_back(token);
  first_byte_[static_cast<unsigned char>(token.pattern[0])] = true;
  has_special_ |= token.special;
}

const AddedToken* TokenFinder::LongestAt(std::string_view text, size_t at,
                                         const std::vector<uint8_t>& untrusted) const {
  const AddedToken* longest = nullptr;
  bool trusted = true;
  size_t node = 0;
  for (; at < text.size(); ++at) {
    const auto found = nodes_[node].next.find(static_cast<unsigned char>(text[at]));
    if (found == nodes_[node].next.end()) break;
    node = static_cast<size_t>(found->second);
    if (!untrusted.empty() && untrusted[at]) trusted = false;
    const int32_t token = nodes_[node].token;
    if (token >= 0 && (trusted || !tokens_[token].special)) longest = &tokens_[token];
  }
  return longest;
}

void TokenFinder::Find(std::string_view text, const std::vector<uint8_t>& untrusted, std::vector<Piece>& pieces) const {
  size_t covered = 0;  // the end of the last piece; a token that strips may reach beyond where the search goes on
  size_t space_begin = 1, space_end = 0;
  for (size_t at = 0; at < text.size();) {
    const AddedToken* token =
        first_byte_[static_cast<unsigned char>(text[at])] ? LongestAt(text, at, untrusted) : nullptr;
    if (token == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + token->pattern.size();
    at = end;
    if (token->single_word && !StandsAlone(text, begin, end)) continue;
    if (token->lstrip) begin = std::max(SpaceBefore(text, begin, covered), covered);
    if (token->rstrip) {
      // A run of white space is walked once, even if each of its characters is such a token.
      if (end < space_begin || end > space_end) space_begin = end, space_end = SpaceBehind(text, end);
      end = space_end;
    }
    if (covered < begin) pieces.push_back({covered, begin, -1});
    pieces.push_back({begin, end, token->id});
    covered = end;
  }
  if (covered < text.size()) pieces.push_back({covered, text.size(), -1});
}

absl::StatusOr<AddedTokens> AddedTokens::Parse(const JsonView& json, const Bpe& model, const Normalizer* normalizer) {
  AddedTokens added;
  if (!json.Has("added_tokens")) return added;
  HYSPARSE_ASSIGN_OR_RETURN(const std::vector<JsonView> views, json.Array("added_tokens"));
  absl::flat_hash_map<int32_t, std::string> by_id;
  absl::flat_hash_set<std::string> seen;
  for (const JsonView& view : views) {
    HYSPARSE_ASSIGN_OR_RETURN(AddedToken token, ParseToken(view, normalizer));
    if (token.content.empty()) continue;  // as the library does
    const int32_t known = model.TokenId(token.content);
    const bool taken = known < 0 && model.Knows(token.id);
    if ((known >= 0 && known != token.id) || taken) {
      return view.Error(
          absl::StrCat("the added token '", token.content, "' has the id ", token.id, ", but the vocabulary ",
                       taken ? absl::StrCat("gives that id to '", std::string(model.TokenText(token.id)), "'")
                             : absl::StrCat("knows it as ", known)));
    }
    if (!seen.insert(token.content).second)
      return view.Error(absl::StrCat("the token '", token.content, "' is added twice"));
    const auto [other, fresh] = by_id.try_emplace(token.id, token.content);
    if (!fresh)
      return view.Error(absl::StrCat("'", other->second, "' and '", token.content, "' share the id ", token.id));
    added.tokens_.push_back(std::move(token));
  }
  for (const AddedToken& token : added.tokens_) (token.normalized ? added.normalized_ : added.raw_).Add(token);
  return added;
}

}  // namespace hysparse
