#include "engine/text/hf_tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/result.h"
#include "engine/text/string_view.h"
#include "engine/text/utf8.h"

namespace hysparse {
namespace {

// The component `key`, null when it is missing.
JsonView Component(const JsonView& json, const char* key) {
  static const nlohmann::json null;
  const auto found = json.value().find(key);
  return JsonView(found == json.value().end() ? null : *found, absl::StrCat(json.path(), ": ", key));
}

absl::Status CheckText(size_t size, bool valid) {
  if (size > Tokenizer::kMaxTextBytes)
    return absl::InvalidArgumentError(absl::StrCat("a text of ", size, " bytes is too long to tokenize"));
  return valid ? absl::OkStatus() : absl::InvalidArgumentError("the text is not valid UTF-8");
}

}  // namespace

absl::StatusOr<std::shared_ptr<const HfTokenizer>> HfTokenizer::Build(const JsonView& json) {
  if (!json.value().is_object()) return json.Error("must be a JSON object");
  std::shared_ptr<HfTokenizer> tokenizer(new HfTokenizer);
  HYSPARSE_RETURN_IF_ERROR(tokenizer->ReadComponents(json));
  tokenizer->IndexAddedTokens();
  return tokenizer;
}

absl::Status HfTokenizer::ReadComponents(const JsonView& json) {
  HYSPARSE_ASSIGN_OR_RETURN(model_, Bpe::Parse(Component(json, "model")));
  if (const JsonView part = Component(json, "normalizer"); !part.IsNull()) {
    HYSPARSE_ASSIGN_OR_RETURN(normalizer_, Normalizer::Parse(part));
  }
  if (const JsonView part = Component(json, "pre_tokenizer"); !part.IsNull()) {
    HYSPARSE_ASSIGN_OR_RETURN(pre_tokenizer_, PreTokenizer::Parse(part));
    raw_bytes_ = model_->SupportsRawBytes() && pre_tokenizer_->LeaveBytesRaw();
  }
  HYSPARSE_ASSIGN_OR_RETURN(post_processor_, PostProcessor::Parse(Component(json, "post_processor")));
  HYSPARSE_ASSIGN_OR_RETURN(decoder_, Decoder::Parse(Component(json, "decoder")));
  HYSPARSE_ASSIGN_OR_RETURN(added_, AddedTokens::Parse(json, *model_, normalizer_.get()));
  return absl::OkStatus();
}

void HfTokenizer::IndexAddedTokens() {
  int32_t limit = model_->id_limit();
  absl::flat_hash_set<std::string> special;
  for (const AddedToken& token : added_.tokens()) {
    limit = std::max(limit, token.id + 1);
    added_ids_.emplace(token.content, token.id);
    added_text_.emplace(token.id, token.pattern);  // the decoder undoes what the normalizer did
    if (token.special) special.insert(token.content);
  }
  // The library asks for the spelling, so a token is special whenever it is spelt like one.
  special_.resize(limit);
  for (int32_t id = 0; id < limit; ++id) special_[id] = Knows(id) && special.contains(TokenText(id));
}

absl::StatusOr<std::vector<int32_t>> HfTokenizer::Encode(std::string_view text, bool add_special_tokens) const {
  HYSPARSE_RETURN_IF_ERROR(CheckText(text.size(), IsValidUtf8(text)));
  HYSPARSE_ASSIGN_OR_RETURN(std::vector<int32_t> ids, EncodeText(text, {}));
  return post_processor_.Apply(std::move(ids), add_special_tokens);
}

absl::StatusOr<std::vector<int32_t>> HfTokenizer::EncodeSegments(std::span<const TextSegment> segments) const {
  std::string text;
  bool all_trusted = true;
  for (const TextSegment& segment : segments) {
    // Each segment by itself: halves of a character from two sources must not become one.
    HYSPARSE_RETURN_IF_ERROR(CheckText(text.size() + segment.text.size(), IsValidUtf8(segment.text)));
    text += segment.text;
    all_trusted &= segment.trusted || segment.text.empty();
  }
  std::vector<uint8_t> untrusted;
  if (!all_trusted) {
    untrusted.reserve(text.size());
    for (const TextSegment& segment : segments)
      untrusted.insert(untrusted.end(), segment.text.size(), segment.trusted ? 0 : 1);
  }
  return EncodeText(text, untrusted);
}

absl::StatusOr<std::vector<int32_t>> HfTokenizer::EncodeText(std::string_view text,
                                                             const std::vector<uint8_t>& untrusted) const {
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 3 + 8);
  std::vector<Piece> pieces;
  added_.raw().Find(text, untrusted, pieces);
  std::unique_ptr<BpeScratch> scratch = TakeScratch();
  absl::Status status;
  for (const Piece& piece : pieces) {
    if (piece.id >= 0) {
      ids.push_back(piece.id);
    } else if (status = EncodeBetweenTokens(text, piece.begin, piece.end, untrusted, *scratch, ids); !status.ok()) {
      break;
    }
  }
  GiveBack(std::move(scratch));
  if (!status.ok()) return status;
  return ids;
}

absl::Status HfTokenizer::EncodeBetweenTokens(std::string_view text, size_t begin, size_t end,
                                              const std::vector<uint8_t>& untrusted, BpeScratch& scratch,
                                              std::vector<int32_t>& ids) const {
  NormalizedText normalized;
  normalized.text = text.substr(begin, end - begin);
  if (begin == 0 && !normalized.text.empty()) normalized.origin_bytes = Utf8Length(normalized.text[0]);
  if (!untrusted.empty() && added_.normalized().has_special()) {
    normalized.untrusted.assign(untrusted.begin() + static_cast<std::ptrdiff_t>(begin),
                                untrusted.begin() + static_cast<std::ptrdiff_t>(end));
  }
  if (normalizer_ != nullptr) HYSPARSE_RETURN_IF_ERROR(normalizer_->Apply(normalized));
  if (added_.normalized().empty()) return EncodePlain(std::move(normalized), scratch, ids);

  std::vector<Piece> pieces;
  added_.normalized().Find(normalized.text, normalized.untrusted, pieces);
  for (const Piece& piece : pieces) {
    if (piece.id >= 0) {
      ids.push_back(piece.id);
      continue;
    }
    const size_t origin = piece.begin < normalized.origin_bytes ? normalized.origin_bytes - piece.begin : 0;
    NormalizedText part{normalized.text.substr(piece.begin, piece.end - piece.begin), origin, {}};
    HYSPARSE_RETURN_IF_ERROR(EncodePlain(std::move(part), scratch, ids));
  }
  return absl::OkStatus();
}

absl::Status HfTokenizer::EncodePlain(NormalizedText text, BpeScratch& scratch, std::vector<int32_t>& ids) const {
  if (text.text.empty()) return absl::OkStatus();
  WordList words;
  words.spans.push_back({0, static_cast<uint32_t>(text.text.size()), text.origin_bytes > 0});
  words.text = std::move(text.text);
  if (pre_tokenizer_ != nullptr) HYSPARSE_RETURN_IF_ERROR(pre_tokenizer_->Apply(words));
  const std::string_view all = words.text;
  for (const Span& span : words.spans)
    model_->Encode(all.substr(span.begin, span.end - span.begin), raw_bytes_, scratch, ids);
  return absl::OkStatus();
}

std::string HfTokenizer::Decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  const std::unique_ptr<DecodeStream> stream = StartDecoding();
  std::string text;
  for (const int32_t id : ids) {
    if (Knows(id) && !(skip_special_tokens && IsSpecial(id))) text += stream->Append(TokenText(id));
  }
  return text + stream->Finish();
}

bool HfTokenizer::Knows(int32_t id) const { return model_->Knows(id) || added_text_.contains(id); }

bool HfTokenizer::IsSpecial(int32_t id) const { return id >= 0 && id < vocab_size() && special_[id]; }

std::string HfTokenizer::TokenText(int32_t id) const {
  const auto added = added_text_.find(id);
  return added != added_text_.end() ? added->second : std::string(model_->TokenText(id));
}

std::string HfTokenizer::TokenBytes(int32_t id) const {
  if (!Knows(id)) return "";
  return decoder_->TokenBytes(TokenText(id));
}

int32_t HfTokenizer::TokenId(std::string_view token) const {
  const auto added = added_ids_.find(View(token));
  return added != added_ids_.end() ? added->second : model_->TokenId(token);
}

std::unique_ptr<BpeScratch> HfTokenizer::TakeScratch() const {
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      std::unique_ptr<BpeScratch> scratch = std::move(idle_.back());
      idle_.pop_back();
      return scratch;
    }
  }
  return std::make_unique<BpeScratch>();
}

void HfTokenizer::GiveBack(std::unique_ptr<BpeScratch> scratch) const {
  scratch->Trim();
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(scratch));
}

}  // namespace hysparse
