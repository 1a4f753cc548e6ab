// FieldReader: typed access to the fields of one JSON object of a request. The first error sticks and names the field;
// null counts as absent; fields that nobody asked for are reported as unknown. One thread.
//
//   FieldReader fields(object);
//   fields.Read("stream", &stream);
//   fields.Ignore({"user", "metadata"});
//   HYSPARSE_RETURN_IF_ERROR(fields.status());
#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace hysparse::openai {

using Json = nlohmann::ordered_json;  // key order is kept

// The body as an object. InvalidArgument: not JSON, not UTF-8, not an object, or nested deeper than 64.
absl::StatusOr<Json> ParseBody(const std::string& body);

// An integer of JSON, 5.0 included; anything else is an error.
absl::StatusOr<int64_t> ToInteger(const Json& value, const std::string& field);

class FieldReader {
 public:
  // `object` outlives the reader; `prefix` ("stream_options.") stands before the names in errors.
  explicit FieldReader(const Json& object, std::string prefix = "") : object_(object), prefix_(std::move(prefix)) {}

  const Json* Find(const char* name);  // null when absent or JSON null
  bool Read(const char* name, bool* out);
  bool Read(const char* name, std::string* out);
  bool Read(const char* name, float* out);
  bool Read(const char* name, int32_t* out);  // beyond 32 bits: an error

  void Ignore(std::initializer_list<const char*> names) { known_.insert(names.begin(), names.end()); }
  void Refuse(const char* name, const std::string& why);  // an error when the field is there
  void Fail(const char* name, const std::string& message);
  void Fail(const absl::Status& status) { status_.Update(status); }

  const absl::Status& status() const { return status_; }
  std::vector<std::string> Unknown() const;

 private:
  std::string Name(const char* name) const { return prefix_ + name; }

  const Json& object_;
  const std::string prefix_;
  std::set<std::string> known_;
  absl::Status status_;
};

}  // namespace hysparse::openai
