// Checkpoint: the tensors of a Hugging Face folder, mapped read-only: model.safetensors, or the shards that
// model.safetensors.index.json names. Nothing is copied; a Tensor's bytes live as long as the Checkpoint. Immutable
// after Open; read by any thread. Errors name the file and the tensor.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/file.h"

namespace hysparse {

struct Tensor {
  std::string dtype;           // as in the file: "BF16"
  std::vector<int64_t> shape;  // outermost first
  std::span<const std::byte> bytes;
  std::string file;
};

class Checkpoint {
 public:
  // InvalidArgument: a broken file, a tensor in two shards, an index that names a tensor its shard lacks or a file
  // outside the folder. NotFound: no safetensors, or a shard is missing.
  static absl::StatusOr<Checkpoint> Open(const std::string& folder);

  // Null when there is no such tensor.
  const Tensor* Find(const std::string& name) const;
  std::vector<std::string> Names() const;  // sorted
  const std::string& folder() const { return folder_; }

 private:
  absl::Status AddFile(const std::string& path);

  std::string folder_;
  std::vector<std::shared_ptr<const MappedFile>> files_;
  std::unordered_map<std::string, Tensor> tensors_;
};

// "[320, 64]", for messages.
std::string ShapeText(const std::vector<int64_t>& shape);

}  // namespace hysparse
