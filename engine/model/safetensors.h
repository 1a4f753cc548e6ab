// The header of a .safetensors file: 8 bytes of length, that many bytes of JSON, then the tensors' bytes. Every number
// is checked before it is used: header length (at most 100 MB and inside the file), dtype, shape times element size
// against the offsets, and offsets that cover the data without gap or overlap. Pure function of the mapped bytes; any
// thread. Source: https://github.com/huggingface/safetensors, "Format".
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace hysparse {

struct SafetensorsEntry {
  std::string name;
  std::string dtype;           // as in the file: "BF16"
  std::vector<int64_t> shape;  // outermost first; empty: a scalar
  std::span<const std::byte> bytes;
};

// The tensors of a file. InvalidArgument names the file and the tensor.
absl::StatusOr<std::vector<SafetensorsEntry>> ParseSafetensors(std::span<const std::byte> file,
                                                               const std::string& path);

}  // namespace hysparse
