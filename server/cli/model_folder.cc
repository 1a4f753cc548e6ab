#include "server/cli/model_folder.h"

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace hysparse {
namespace {

namespace fs = std::filesystem;

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

bool IsFolder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

// "models/tiny/" → "tiny", "." → the working folder's name.
std::string FolderName(const fs::path& path) {
  std::error_code error;
  const fs::path full = fs::canonical(path, error);
  const std::string name = (error ? path : full).filename().string();
  return name.empty() ? "model" : name;
}

}  // namespace

std::string PreparedModels() {
  std::string cache = Variable("HYSPARSE_CACHE");
  if (cache.empty()) {
    const std::string xdg = Variable("XDG_CACHE_HOME");
    cache = (xdg.empty() ? Variable("HOME") + "/.cache" : xdg) + "/hysparse";
  }
  return cache + "/models";
}

absl::StatusOr<ModelFolder> FindModel(const std::string& model) {
  if (IsFolder(model)) return ModelFolder{model, FolderName(model)};
  std::error_code error;
  if (fs::exists(model, error)) {
    return absl::InvalidArgumentError(absl::StrCat(model, " is a file; MODEL is the folder that holds config.json"));
  }
  const bool is_path = model.find('/') != std::string::npos;
  const fs::path prepared = fs::path(PreparedModels()) / model;
  if (!is_path && IsFolder(prepared)) return ModelFolder{prepared.string(), model};
  if (is_path) return absl::NotFoundError(absl::StrCat("there is no folder ", model));
  return absl::NotFoundError(absl::StrCat("there is no folder ", model, " here and no prepared model of that name in ",
                                          PreparedModels(), "; models/get.sh prepares one"));
}

int64_t WeightFileBytes(const std::string& folder) {
  int64_t bytes = 0;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    std::error_code size_error;
    if (entry.path().extension() != ".safetensors") continue;
    const uintmax_t size = entry.file_size(size_error);
    if (!size_error) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

}  // namespace hysparse
