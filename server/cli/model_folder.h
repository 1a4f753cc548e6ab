// From MODEL, as a user names it, to a folder: a path, or the name of a model that models/get.sh prepared. Any thread.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace hysparse {

struct ModelFolder {
  std::string path;
  std::string name;  // the folder's own name: the model's id unless another is given
};

// NotFound says where was looked and how to prepare a model.
absl::StatusOr<ModelFolder> FindModel(const std::string& model);

// ${HYSPARSE_CACHE:-${XDG_CACHE_HOME:-~/.cache}/hysparse}/models
std::string PreparedModels();

// Bytes of the folder's safetensors files; 0 when it has none.
int64_t WeightFileBytes(const std::string& folder);

}  // namespace hysparse
