#include "engine/text/bpe.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/result.h"
#include "engine/text/byte_alphabet.h"
#include "engine/text/string_view.h"
#include "engine/text/utf8.h"

namespace hysparse {
namespace {

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

}  // namespace

absl::StatusOr<std::unique_ptr<const Bpe>> Bpe::Parse(const JsonView& json) {
  HYSPARSE_ASSIGN_OR_RETURN(const std::string type, json.String("type", "BPE"));
  if (type != "BPE") return json.Error(absl::StrCat("a model of type '", type, "' is not supported, only BPE"));
  std::unique_ptr<Bpe> bpe(new Bpe);
  HYSPARSE_RETURN_IF_ERROR(bpe->ReadVocabulary(json));
  HYSPARSE_RETURN_IF_ERROR(bpe->ReadOptions(json));
  HYSPARSE_RETURN_IF_ERROR(bpe->ReadMerges(json));
  bpe->BuildRawTables();
  return std::unique_ptr<const Bpe>(std::move(bpe));
}

absl::Status Bpe::ReadVocabulary(const JsonView& json) {
  HYSPARSE_ASSIGN_OR_RETURN(const JsonView vocabulary, json.Object("vocab"));
  ids_.reserve(vocabulary.value().size());
  for (const auto& [token, value] : vocabulary.value().items()) {
    const std::optional<int32_t> as_id = JsonView::AsId(value);
    if (!as_id.has_value()) {
      return vocabulary.Error(
          absl::StrCat("the id of '", token, "' must be an id in [0, ", JsonView::kMaxVocabulary, ")"));
    }
    const int32_t id = *as_id;
    if (id >= id_limit()) tokens_.resize(id + 1);
    if (Knows(id)) return vocabulary.Error(absl::StrCat("'", tokens_[id], "' and '", token, "' share the id ", id));
    tokens_[id] = token;
    ids_.emplace(token, id);
  }
  return absl::OkStatus();
}

absl::Status Bpe::ReadOptions(const JsonView& json) {
  HYSPARSE_ASSIGN_OR_RETURN(prefix_, json.String("continuing_subword_prefix", ""));
  HYSPARSE_ASSIGN_OR_RETURN(suffix_, json.String("end_of_word_suffix", ""));
  HYSPARSE_ASSIGN_OR_RETURN(fuse_unknown_, json.Bool("fuse_unk", false));
  HYSPARSE_ASSIGN_OR_RETURN(byte_fallback_, json.Bool("byte_fallback", false));
  HYSPARSE_ASSIGN_OR_RETURN(ignore_merges_, json.Bool("ignore_merges", false));
  if (json.Has("dropout") && json.value()["dropout"] != 0.0)
    return json.Error("dropout is not supported: it makes encodings random");
  if (!json.Has("unk_token")) return absl::OkStatus();
  HYSPARSE_ASSIGN_OR_RETURN(const std::string unknown, json.String("unk_token"));
  unknown_id_ = TokenId(unknown);
  if (unknown_id_ < 0) return json.Error(absl::StrCat("the unk_token '", unknown, "' is not in the vocabulary"));
  return absl::OkStatus();
}

absl::Status Bpe::ReadMerges(const JsonView& json) {
  HYSPARSE_ASSIGN_OR_RETURN(const std::vector<JsonView> merges, json.Array("merges"));
  merges_.reserve(merges.size());
  size_t rank = 0;
  for (const JsonView& merge : merges) {
    const nlohmann::json& value = merge.value();
    if (value.is_string()) {
      const std::string& text = value.get_ref<const std::string&>();
      if (text.starts_with("#version")) continue;
      const size_t space = text.find(' ');
      if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos)
        return merge.Error("must be two tokens with one space between");
      HYSPARSE_RETURN_IF_ERROR(
          AddMerge(merge, rank++, std::string_view(text).substr(0, space), std::string_view(text).substr(space + 1)));
    } else if (value.is_array() && value.size() == 2 && value[0].is_string() && value[1].is_string()) {
      HYSPARSE_RETURN_IF_ERROR(
          AddMerge(merge, rank++, value[0].get_ref<const std::string&>(), value[1].get_ref<const std::string&>()));
    } else {
      return merge.Error("must be a string or a pair of strings");
    }
  }
  return absl::OkStatus();
}

absl::Status Bpe::AddMerge(const JsonView& json, size_t rank, std::string_view left, std::string_view right) {
  const int32_t left_id = TokenId(left), right_id = TokenId(right);
  if (left_id < 0 || right_id < 0) {
    return json.Error(absl::StrCat("'", View(left_id < 0 ? left : right), "' is not in the vocabulary"));
  }
  if (right.size() < prefix_.size())
    return json.Error(absl::StrCat("'", View(right), "' is shorter than the continuing_subword_prefix"));
  const std::string merged = absl::StrCat(View(left), View(right.substr(prefix_.size())));
  const int32_t id = TokenId(merged);
  if (id < 0) return json.Error(absl::StrCat("the merged token '", merged, "' is not in the vocabulary"));
  merged_ids_.push_back(id);
  merges_[PairKey(left_id, right_id)] = {static_cast<uint32_t>(rank), id};  // of two equal merges the last one counts
  return absl::OkStatus();
}

void Bpe::BuildRawTables() {
  for (int byte = 0; byte < 256; ++byte) {
    byte_ids_[byte] = TokenId(ByteCharacter(static_cast<unsigned char>(byte)));
    fallback_ids_[byte] = TokenId(absl::StrFormat("<0x%02X>", byte));
  }
  if (!ignore_merges_ || !SupportsRawBytes()) return;
  for (const auto& [token, id] : ids_) {
    std::string bytes;
    if (FromByteAlphabet(token, bytes)) raw_ids_.emplace(std::move(bytes), id);
  }
}

int32_t Bpe::TokenId(std::string_view token) const {
  const auto found = ids_.find(View(token));
  return found == ids_.end() ? -1 : found->second;
}

bool Bpe::Knows(int32_t id) const {
  if (id < 0 || id >= id_limit()) return false;
  if (!tokens_[id].empty()) return true;
  const auto empty = ids_.find("");  // the empty string may be a token, too
  return empty != ids_.end() && empty->second == id;
}

std::string_view Bpe::TokenText(int32_t id) const {
  return id >= 0 && id < id_limit() ? std::string_view(tokens_[id]) : std::string_view();
}

void Bpe::Encode(std::string_view word, bool raw_bytes, BpeScratch& scratch, std::vector<int32_t>& ids) const {
  if (word.empty()) return;
  if (word.size() > BpeScratch::kMaxKey) return EncodeUncached(word, raw_bytes, scratch, ids);
  const size_t hash = absl::Hash<absl::string_view>{}(View(word));
  BpeScratch::Slot& slot = scratch.cache[hash % BpeScratch::kSlots];
  if (slot.key_size == word.size() && std::memcmp(slot.key, word.data(), word.size()) == 0) {
    ids.insert(ids.end(), slot.ids, slot.ids + slot.count);
    return;
  }
  const size_t before = ids.size();
  EncodeUncached(word, raw_bytes, scratch, ids);
  const size_t count = ids.size() - before;
  if (count > BpeScratch::kMaxIds) return;
  slot.key_size = static_cast<uint8_t>(word.size());
  slot.count = static_cast<uint8_t>(count);
  std::copy(word.begin(), word.end(), slot.key);
  std::copy(ids.begin() + static_cast<std::ptrdiff_t>(before), ids.end(), slot.ids);
}

void Bpe::EncodeUncached(std::string_view word, bool raw_bytes, BpeScratch& scratch, std::vector<int32_t>& ids) const {
  if (ignore_merges_) {
    const auto& whole = raw_bytes ? raw_ids_ : ids_;
    if (const auto found = whole.find(View(word)); found != whole.end()) {
      ids.push_back(found->second);
      return;
    }
  }
  scratch.symbols.clear();
  AddSymbols(word, raw_bytes, scratch.symbols);
  MergeAll(scratch);
  for (const BpeScratch::Symbol& symbol : scratch.symbols) {
    if (symbol.alive) ids.push_back(symbol.id);
  }
}

void Bpe::AddSymbols(std::string_view word, bool raw_bytes, std::vector<BpeScratch::Symbol>& symbols) const {
  const auto add = [&](int32_t id) { symbols.push_back({id, 0, 0, true}); };
  int32_t pending_unknown = -1;  // a run of unknown characters becomes one token when they fuse
  std::string affixed;
  for (size_t begin = 0, end = 0; begin < word.size(); begin = end) {
    end = begin + (raw_bytes ? 1 : Utf8Length(word[begin]));
    std::string_view character = word.substr(begin, end - begin);
    int32_t id;
    if (raw_bytes) {
      id = byte_ids_[static_cast<unsigned char>(character[0])];
      character = ByteCharacter(static_cast<unsigned char>(character[0]));
    } else {
      const bool first = begin == 0, last = end == word.size();
      if ((!first && !prefix_.empty()) || (last && !suffix_.empty())) {
        affixed = absl::StrCat(first ? "" : prefix_, View(character), last ? suffix_ : "");
        character = affixed;
      }
      id = TokenId(character);
    }
    if (id < 0) {
      AddUnknown(character, pending_unknown, symbols);
      continue;
    }
    if (pending_unknown >= 0) add(std::exchange(pending_unknown, -1));
    add(id);
  }
  if (pending_unknown >= 0) add(pending_unknown);
}

void Bpe::AddUnknown(std::string_view character, int32_t& pending_unknown,
                     std::vector<BpeScratch::Symbol>& symbols) const {
  const auto known = [&](char byte) { return fallback_ids_[static_cast<unsigned char>(byte)] >= 0; };
  if (byte_fallback_ && std::all_of(character.begin(), character.end(), known)) {
    for (const char byte : character) symbols.push_back({fallback_ids_[static_cast<unsigned char>(byte)], 0, 0, true});
    return;
  }
  if (unknown_id_ < 0) return;
  if (pending_unknown >= 0 && !fuse_unknown_) symbols.push_back({pending_unknown, 0, 0, true});
  pending_unknown = unknown_id_;
}

const Bpe::Merge* Bpe::FindMerge(int32_t left, int32_t right) const {
  const auto found = merges_.find(PairKey(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void Bpe::MergeAll(BpeScratch& scratch) const {
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  heap.clear();
  const auto count = static_cast<int32_t>(symbols.size());
  const auto lowest_first = std::greater<uint64_t>();
  const auto entry = [](uint32_t rank, int32_t at) {
    return static_cast<uint64_t>(rank) << 32 | static_cast<uint32_t>(at);
  };
  for (int32_t i = 0; i < count; ++i) {
    symbols[i].prev = i - 1;
    symbols[i].next = i + 1 < count ? i + 1 : -1;
    if (i == 0) continue;
    if (const Merge* merge = FindMerge(symbols[i - 1].id, symbols[i].id)) heap.push_back(entry(merge->rank, i - 1));
  }
  std::make_heap(heap.begin(), heap.end(), lowest_first);
  const auto push = [&](int32_t at) {
    const Merge* merge = FindMerge(symbols[at].id, symbols[symbols[at].next].id);
    if (merge == nullptr) return;
    heap.push_back(entry(merge->rank, at));
    std::push_heap(heap.begin(), heap.end(), lowest_first);
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), lowest_first);
    const auto rank = static_cast<uint32_t>(heap.back() >> 32);
    const auto at = static_cast<int32_t>(heap.back() & 0xFFFFFFFF);
    heap.pop_back();
    BpeScratch::Symbol& left = symbols[at];
    if (!left.alive || left.next < 0) continue;
    BpeScratch::Symbol& right = symbols[left.next];
    const Merge* merge = FindMerge(left.id, right.id);
    // An entry outlives its pair. The library then still merges what stands there now when that gives the same token.
    if (merge == nullptr || merge->id != merged_ids_[rank]) continue;
    left.id = merge->id;
    right.alive = false;
    left.next = right.next;
    if (left.next >= 0) symbols[left.next].prev = at;
    if (left.prev >= 0) push(left.prev);
    if (left.next >= 0) push(at);
  }
}

}  // namespace hysparse
