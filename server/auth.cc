#include "server/auth.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"

namespace hysparse {

Auth::Auth(const std::vector<std::string>& api_keys) {
  for (const std::string& key : api_keys) digests_.push_back(Hash(key));
}

Auth::Digest Auth::Hash(std::string_view key) {
  Digest digest;
  SHA256(reinterpret_cast<const uint8_t*>(key.data()), key.size(), digest.data());
  return digest;
}

std::optional<std::string> Auth::Authenticate(std::string_view authorization) const {
  if (open()) return std::string();
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() < kScheme.size() ||
      !absl::EqualsIgnoreCase(absl::string_view(authorization.data(), kScheme.size()),
                              absl::string_view(kScheme.data(), kScheme.size()))) {
    return std::nullopt;
  }
  std::string_view key = authorization.substr(kScheme.size());
  while (!key.empty() && key.front() == ' ') key.remove_prefix(1);
  const Digest digest = Hash(key);
  bool found = false;
  for (const Digest& known : digests_) found |= CRYPTO_memcmp(known.data(), digest.data(), digest.size()) == 0;
  if (!found) return std::nullopt;
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(digest.data()), 16));
}

}  // namespace hysparse
