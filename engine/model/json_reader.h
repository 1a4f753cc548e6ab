// Reading untrusted JSON objects (config.json, generation_config.json): every getter checks type and range, and the
// first thing that is wrong is kept as one error that names the file, the key and what was expected. One thread.
//
//   JsonReader config(object, path);
//   const int32_t hidden = config.Int("hidden_size", {.fallback = 4096, .min = 1, .max = kMaxHidden});
//   if (!config.status().ok()) return config.status();
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace hysparse {

// Parses `text`. InvalidArgument for bad syntax, invalid UTF-8, a key that an object holds twice, or nesting deeper
// than 32; no exception escapes.
absl::StatusOr<nlohmann::json> ParseJson(const std::string& text, const std::string& file);

struct IntRange {
  std::optional<int64_t> fallback;  // for a missing or null key; without one the key is required
  int64_t min = 0;
  int64_t max = std::numeric_limits<int32_t>::max();
};

struct NumberRange {
  std::optional<double> fallback;
  double min = std::numeric_limits<double>::lowest();
  double max = std::numeric_limits<double>::max();
};

class JsonReader {
 public:
  // `object` must be an object and outlive the reader; `prefix` is put before key names ("rope_parameters.").
  JsonReader(const nlohmann::json& object, std::string file);

  bool Has(const std::string& key) const;     // present and not null
  bool IsNull(const std::string& key) const;  // present and null

  int32_t Int(const std::string& key, const IntRange& range);
  double Number(const std::string& key, const NumberRange& range);
  bool Bool(const std::string& key, bool fallback);
  std::string String(const std::string& key, const std::string& fallback);
  std::vector<int32_t> IntList(const std::string& key, int64_t min, int64_t max);
  // An int or a list of ints; empty when missing or null.
  std::vector<int32_t> IntOrList(const std::string& key, int64_t min, int64_t max);
  std::vector<std::string> StringList(const std::string& key);
  // The object under `key`, errors shared with this reader; nullopt when missing, null, or no object (an error).
  std::optional<JsonReader> Object(const std::string& key);

  // Records an error about `key` unless there is one already. `what` says what is wrong and what to change.
  void Fail(const std::string& key, const std::string& what);
  bool ok() const { return status_->ok(); }
  const absl::Status& status() const { return *status_; }
  const std::string& file() const { return file_; }

 private:
  const nlohmann::json* Find(const std::string& key) const;
  int32_t ToInt(const std::string& key, const nlohmann::json& value, int64_t min, int64_t max);

  const nlohmann::json* object_;
  std::string file_, prefix_;
  std::shared_ptr<absl::Status> status_;
};

}  // namespace hysparse
