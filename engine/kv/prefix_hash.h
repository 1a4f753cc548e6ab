// Keyed hashes of a prompt's pages: page i's covers all tokens up to its end, so one lookup a page finds a prefix. The
// key is drawn per process, so that nobody can make prompts collide on purpose; a hit is compared token by token
// anyway. Immutable; any thread (a front end hashes its prompt before the engine sees it).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace hysparse {

// What separates tenants: pages of one salt are never found under another. Two independent 64-bit tags of the text.
struct CacheSalt {
  uint64_t seed = 0, tag = 0;
  bool operator==(const CacheSalt&) const = default;
};

class PrefixHash {
 public:
  PrefixHash(int32_t page_tokens, uint64_t key) : page_tokens_(page_tokens), key_(key) {}

  CacheSalt Salt(std::string_view text) const;
  // The hash of the page with these tokens after a prefix with hash `before` (of the first page: the salt's seed).
  uint64_t Extend(uint64_t before, std::span<const int32_t> page) const;
  // One hash for each whole page of `tokens`.
  std::vector<uint64_t> Pages(const CacheSalt& salt, std::span<const int32_t> tokens) const;

  int32_t page_tokens() const { return page_tokens_; }

 private:
  int32_t page_tokens_;
  uint64_t key_;
};

}  // namespace hysparse
