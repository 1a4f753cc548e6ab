// JsonView: a value of tokenizer.json with the path that leads to it, so that every error names file and component.
// Refers to the document, which must outlive it. Any thread; read-only.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace hysparse {

class JsonView {
 public:
  JsonView(const nlohmann::json& value, std::string path) : value_(&value), path_(std::move(path)) {}

  const nlohmann::json& value() const { return *value_; }
  const std::string& path() const { return path_; }
  absl::Status Error(std::string_view what) const;    // InvalidArgument "path: what"
  absl::Status At(const absl::Status& status) const;  // the same code, prefixed by the path

  bool IsNull() const;
  bool Has(const char* key) const;  // present and not null
  absl::StatusOr<JsonView> Object(const char* key) const;
  absl::StatusOr<std::vector<JsonView>> Array(const char* key) const;
  absl::StatusOr<std::string> String(const char* key) const;
  absl::StatusOr<std::string> String(const char* key, std::string_view fallback) const;
  absl::StatusOr<bool> Bool(const char* key, bool fallback) const;
  absl::StatusOr<bool> Bool(const char* key) const;
  absl::StatusOr<int32_t> Id(const char* key) const;  // 0 ≤ id < kMaxVocabulary
  absl::StatusOr<int64_t> Integer(const char* key) const;
  absl::StatusOr<std::string> Type() const { return String("type"); }

  // Tables are indexed by id, so a stray huge id must not size them.
  static constexpr int64_t kMaxVocabulary = int64_t{1} << 24;
  // `value` as an id; nothing when it is not one.
  static std::optional<int32_t> AsId(const nlohmann::json& value);

 private:
  const nlohmann::json* Find(const char* key) const;
  absl::StatusOr<JsonView> Child(const char* key) const;
  const nlohmann::json* value_;
  std::string path_;
};

}  // namespace hysparse
