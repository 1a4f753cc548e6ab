// Bpe: the BPE model of tokenizer.json. A word is cut into characters (or bytes), each of which is a symbol, and the
// adjacent pair with the lowest merge rank is merged until none is left: O(n log n) with a heap. Immutable and shared;
// what an encoding writes to lives in a BpeScratch that one thread uses at a time.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "engine/text/json_view.h"

namespace hysparse {

// Buffers and a cache of short words: a table of fixed size in which a new word replaces what was in its slot, so its
// memory is bounded by construction. 1 MiB.
struct BpeScratch {
  static constexpr size_t kSlots = 1 << 14, kMaxKey = 30, kMaxIds = 8;
  struct Slot {
    uint8_t key_size = 0, count = 0;
    char key[kMaxKey];
    int32_t ids[kMaxIds];
  };
  struct Symbol {
    int32_t id, prev, next;
    bool alive;
  };
  std::vector<Slot> cache = std::vector<Slot>(kSlots);
  std::vector<Symbol> symbols;
  std::vector<uint64_t> heap;  // rank << 32 | position: the lowest rank first, and of those the leftmost

  // Gives back what an uncommonly long word left behind.
  void Trim() {
    if (symbols.capacity() > kSlots) std::vector<Symbol>().swap(symbols);
    if (heap.capacity() > kSlots) std::vector<uint64_t>().swap(heap);
  }
};

class Bpe {
 public:
  // `json` is the "model" component. InvalidArgument names what is broken or not supported.
  static absl::StatusOr<std::unique_ptr<const Bpe>> Parse(const JsonView& json);

  // Appends the ids of one word. With `raw_bytes` the word is bytes that the byte alphabet stands for
  // (byte_alphabet.h), otherwise valid UTF-8 as the vocabulary spells it. Only allowed when SupportsRawBytes().
  void Encode(std::string_view word, bool raw_bytes, BpeScratch& scratch, std::vector<int32_t>& ids) const;
  // Prefixes and suffixes of words are spelt in characters.
  bool SupportsRawBytes() const { return prefix_.empty() && suffix_.empty(); }

  int32_t TokenId(std::string_view token) const;  // -1 when unknown
  std::string_view TokenText(int32_t id) const;   // "" when unknown
  bool Knows(int32_t id) const;
  size_t size() const { return ids_.size(); }                                // tokens in the vocabulary
  int32_t id_limit() const { return static_cast<int32_t>(tokens_.size()); }  // highest id + 1

 private:
  struct Merge {
    uint32_t rank;
    int32_t id;
  };
  Bpe() = default;
  absl::Status ReadOptions(const JsonView& json);
  absl::Status ReadVocabulary(const JsonView& json);
  absl::Status ReadMerges(const JsonView& json);
  absl::Status AddMerge(const JsonView& json, size_t rank, std::string_view left, std::string_view right);
  void BuildRawTables();

  void EncodeUncached(std::string_view word, bool raw_bytes, BpeScratch& scratch, std::vector<int32_t>& ids) const;
  void AddSymbols(std::string_view word, bool raw_bytes, std::vector<BpeScratch::Symbol>& symbols) const;
  void AddUnknown(std::string_view character, int32_t& pending_unknown, std::vector<BpeScratch::Symbol>& symbols) const;
  void MergeAll(BpeScratch& scratch) const;
  const Merge* FindMerge(int32_t left, int32_t right) const;

  std::vector<std::string> tokens_;  // by id; "" for a hole
  absl::flat_hash_map<std::string, int32_t> ids_;
  absl::flat_hash_map<uint64_t, Merge> merges_;        // left << 32 | right
  std::vector<int32_t> merged_ids_;                    // by rank: what the merge makes
  absl::flat_hash_map<std::string, int32_t> raw_ids_;  // ids_ by the bytes they stand for, for ignore_merges
  std::array<int32_t, 256> byte_ids_{};                // of the alphabet's characters, -1 when missing
  std::array<int32_t, 256> fallback_ids_{};            // of "<0x00>" …, -1 when missing
  std::string prefix_, suffix_;                        // continuing_subword_prefix, end_of_word_suffix
  int32_t unknown_id_ = -1;                            // -1: unknown characters vanish
  bool fuse_unknown_ = false, byte_fallback_ = false, ignore_merges_ = false;
};

}  // namespace hysparse
