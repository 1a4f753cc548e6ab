#include "server/openai/field_reader.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/json_depth.h"
#include "engine/base/result.h"
#include "server/error_map.h"

namespace hysparse::openai {
namespace {

constexpr int kMaxDepth = 64;

}  // namespace

absl::StatusOr<Json> ParseBody(const std::string& body) {
  if (!JsonDepthWithin(body, kMaxDepth))
    return BadField("", absl::StrCat("The body is nested deeper than ", kMaxDepth, " levels."));
  try {
    Json json = Json::parse(body);
    if (!json.is_object()) return BadField("", "The body must be a JSON object.");
    return json;
  } catch (const Json::parse_error& e) {
    return BadField("", absl::StrCat("The body is not valid JSON in UTF-8 (at byte ", e.byte, ")."));
  } catch (const std::exception&) {  // a number that no double can hold
    return BadField("", "The body has a number that is out of range.");
  }
}

absl::StatusOr<int64_t> ToInteger(const Json& value, const std::string& field) {
  if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()}) {
    return BadField(field, "is out of range");
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (value.is_number_float()) {
    const double number = value.get<double>();
    if (std::trunc(number) == number && std::abs(number) < 9e15) return static_cast<int64_t>(number);
  }
  return BadField(field, "must be an integer");
}

const Json* FieldReader::Find(const char* name) {
  known_.insert(name);
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

bool FieldReader::Read(const char* name, bool* out) {
  const Json* value = Find(name);
  if (value == nullptr) return false;
  if (!value->is_boolean()) {
    Fail(name, "must be true or false");
    return false;
  }
  *out = value->get<bool>();
  return true;
}

bool FieldReader::Read(const char* name, std::string* out) {
  const Json* value = Find(name);
  if (value == nullptr) return false;
  if (!value->is_string()) {
    Fail(name, "must be a string");
    return false;
  }
  *out = value->get<std::string>();
  return true;
}

bool FieldReader::Read(const char* name, float* out) {
  const Json* value = Find(name);
  if (value == nullptr) return false;
  if (!value->is_number()) {
    Fail(name, "must be a number");
    return false;
  }
  const double number = value->get<double>();
  if (!(std::abs(number) <= std::numeric_limits<float>::max())) {
    Fail(name, "is out of range");
    return false;
  }
  *out = static_cast<float>(number);
  return true;
}

bool FieldReader::Read(const char* name, int32_t* out) {
  const Json* value = Find(name);
  if (value == nullptr) return false;
  const absl::StatusOr<int64_t> number = ToInteger(*value, Name(name));
  if (!number.ok()) {
    status_.Update(number.status());
    return false;
  }
  if (*number < std::numeric_limits<int32_t>::min() || *number > std::numeric_limits<int32_t>::max()) {
    Fail(name, "is out of range");
    return false;
  }
  *out = static_cast<int32_t>(*number);
  return true;
}

void FieldReader::Refuse(const char* name, const std::string& why) {
  if (Find(name) != nullptr) Fail(name, why);
}

void FieldReader::Fail(const char* name, const std::string& message) { status_.Update(BadField(Name(name), message)); }

std::vector<std::string> FieldReader::Unknown() const {
  std::vector<std::string> unknown;
  for (const auto& [name, value] : object_.items()) {
    if (!value.is_null() && known_.count(name) == 0) unknown.push_back(prefix_ + name);
  }
  return unknown;
}

}  // namespace hysparse::openai
