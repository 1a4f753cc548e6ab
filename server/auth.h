// API keys. Only SHA-256 digests are kept; a presented key is hashed and compared with every digest in constant time,
// so that neither a key's content nor its place in the list shows in the time taken. Immutable; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hysparse {

class Auth {
 public:
  explicit Auth(const std::vector<std::string>& api_keys);

  bool open() const { return digests_.empty(); }  // no keys: everybody may

  // `authorization` is the header's (or gRPC metadata's) value, "Bearer KEY". The tenant that the key belongs to (a
  // digest, never the key; "" when the server is open), or nothing when it must be refused.
  std::optional<std::string> Authenticate(std::string_view authorization) const;

 private:
  using Digest = std::array<uint8_t, 32>;
  static Digest Hash(std::string_view key);
  std::vector<Digest> digests_;
};

}  // namespace hysparse
