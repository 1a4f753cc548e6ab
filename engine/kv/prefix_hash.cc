#include "engine/kv/prefix_hash.h"

#include <cstddef>

namespace hysparse {
namespace {

// The two halves of a product folded: every bit of the input reaches every bit of the output.
uint64_t Fold(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// Odd constants with as many ones as zeros, from the digits of pi and e.
constexpr uint64_t kPi = 0x3243f6a8885a308d, kE = 0xb7e151628aed2a6b;

uint64_t Pair(int32_t low, int32_t high) {
  return static_cast<uint64_t>(static_cast<uint32_t>(high)) << 32 | static_cast<uint32_t>(low);
}

}  // namespace

CacheSalt PrefixHash::Salt(std::string_view text) const {
  CacheSalt salt{Fold(key_ ^ kPi, kE + text.size()), Fold(key_ ^ kE, kPi + text.size())};
  for (const char c : text) {
    const auto byte = static_cast<uint64_t>(static_cast<unsigned char>(c)) + 1;
    salt.seed = Fold(salt.seed ^ byte ^ key_, kPi);
    salt.tag = Fold(salt.tag + byte, key_ | 1) ^ kE;
  }
  return salt;
}

uint64_t PrefixHash::Extend(uint64_t before, std::span<const int32_t> page) const {
  uint64_t hash = Fold(before ^ key_, kE);
  size_t i = 0;
  for (; i + 4 <= page.size(); i += 4) {
    hash = Fold(hash ^ key_ ^ Pair(page[i], page[i + 1]), kPi ^ Pair(page[i + 2], page[i + 3]) ^ hash << 1);
  }
  for (; i < page.size(); ++i) hash = Fold(hash ^ Pair(page[i], 0), kE ^ key_);
  return hash;
}

std::vector<uint64_t> PrefixHash::Pages(const CacheSalt& salt, std::span<const int32_t> tokens) const {
  const auto size = static_cast<size_t>(page_tokens_);
  std::vector<uint64_t> hashes;
  if (size == 0) return hashes;
  hashes.reserve(tokens.size() / size);
  uint64_t hash = salt.seed;
  for (size_t at = 0; at + size <= tokens.size(); at += size) {
    hashes.push_back(hash = Extend(hash, tokens.subspan(at, size)));
  }
  return hashes;
}

}  // namespace hysparse
