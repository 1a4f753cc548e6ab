// Whole files and read-only mappings. Any thread. Errors name the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"

namespace hysparse {

// The file's bytes. NotFound; InvalidArgument when it is larger than `limit`.
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t limit = size_t{256} << 20);

// A file mapped read-only; unmapped on destruction.
class MappedFile {
 public:
  static absl::StatusOr<std::shared_ptr<const MappedFile>> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  MappedFile(const std::byte* data, size_t size) : data_(data), size_(size) {}
  const std::byte* data_;
  size_t size_;
};

}  // namespace hysparse
