#include "engine/model/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/result.h"
#include "engine/model/json_reader.h"
#include "engine/model/safetensors.h"

namespace hysparse {
namespace {

constexpr char kIndex[] = "model.safetensors.index.json";
constexpr char kSuffix[] = ".safetensors";
constexpr size_t kMaxIndexBytes = 100'000'000;

// A plain file name of this folder: an index must not reach outside it.
bool IsPlainFileName(const std::string& name) {
  return absl::EndsWith(name, kSuffix) && name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos &&
         name[0] != '.';
}

// shard -> names of its tensors.
absl::StatusOr<std::map<std::string, std::vector<std::string>>> ReadIndex(const std::string& path,
                                                                          const std::string& text) {
  HYSPARSE_ASSIGN_OR_RETURN(const nlohmann::json index, ParseJson(text, path));
  const auto map = index.find("weight_map");  // end() of anything but an object
  if (!index.is_object() || map == index.end() || !map->is_object())
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": weight_map: an object of tensor names to files is expected"));
  std::map<std::string, std::vector<std::string>> shards;
  for (const auto& [name, file] : map->items()) {
    if (!file.is_string() || !IsPlainFileName(file.get_ref<const std::string&>()))
      return absl::InvalidArgumentError(absl::StrCat(
          path, ": tensor '", name, "': its file must be the plain name of a ", kSuffix, " file in the same folder"));
    shards[file.get_ref<const std::string&>()].push_back(name);
  }
  return shards;
}

std::vector<std::string> SafetensorsFiles(const std::string& folder) {
  std::set<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (IsPlainFileName(name)) names.insert(name);
  }
  if (names.count("model.safetensors")) return {"model.safetensors"};
  return {names.begin(), names.end()};
}

}  // namespace

std::string ShapeText(const std::vector<int64_t>& shape) { return absl::StrCat("[", absl::StrJoin(shape, ", "), "]"); }

absl::Status Checkpoint::AddFile(const std::string& path) {
  HYSPARSE_ASSIGN_OR_RETURN(std::shared_ptr<const MappedFile> file, MappedFile::Open(path));
  HYSPARSE_ASSIGN_OR_RETURN(std::vector<SafetensorsEntry> entries, ParseSafetensors(file->bytes(), path));
  for (SafetensorsEntry& entry : entries) {
    const auto [it, added] =
        tensors_.try_emplace(std::move(entry.name), Tensor{entry.dtype, entry.shape, entry.bytes, path});
    if (!added)
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": tensor '", it->first, "' is also in ", it->second.file, ": remove one of them"));
  }
  files_.push_back(std::move(file));
  return absl::OkStatus();
}

absl::StatusOr<Checkpoint> Checkpoint::Open(const std::string& folder) {
  Checkpoint checkpoint;
  checkpoint.folder_ = folder;
  const std::string index_path = absl::StrCat(folder, "/", kIndex);
  const absl::StatusOr<std::string> index = ReadFile(index_path, kMaxIndexBytes);
  if (!index.ok() && !absl::IsNotFound(index.status())) return index.status();
  if (index.ok()) {
    HYSPARSE_ASSIGN_OR_RETURN(const auto shards, ReadIndex(index_path, *index));
    for (const auto& [file, names] : shards) {
      const std::string path = absl::StrCat(folder, "/", file);
      const absl::Status added = checkpoint.AddFile(path);
      if (absl::IsNotFound(added))
        return absl::NotFoundError(absl::StrCat(path, ": missing, but ", kIndex, " names it; download it again"));
      HYSPARSE_RETURN_IF_ERROR(added);
      for (const std::string& name : names) {
        const Tensor* tensor = checkpoint.Find(name);
        if (tensor == nullptr || tensor->file != path)
          return absl::InvalidArgumentError(absl::StrCat(index_path, ": tensor '", name, "' is not in ", file));
      }
    }
    return checkpoint;
  }
  const std::vector<std::string> files = SafetensorsFiles(folder);
  if (files.empty())
    return absl::NotFoundError(
        absl::StrCat(folder, ": no model.safetensors and no ", kIndex, "; convert the weights to safetensors first"));
  for (const std::string& file : files) HYSPARSE_RETURN_IF_ERROR(checkpoint.AddFile(absl::StrCat(folder, "/", file)));
  return checkpoint;
}

const Tensor* Checkpoint::Find(const std::string& name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

std::vector<std::string> Checkpoint::Names() const {
  std::vector<std::string> names;
  names.reserve(tensors_.size());
  for (const auto& [name, tensor] : tensors_) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace hysparse
