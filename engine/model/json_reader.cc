#include "engine/model/json_reader.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_cat.h"

namespace hysparse {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 32;
constexpr size_t kShown = 60;

std::string Show(const json& value) {
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  if (text.size() > kShown) text = text.substr(0, kShown) + "…";
  return text;
}

}  // namespace

absl::StatusOr<json> ParseJson(const std::string& text, const std::string& file) {
  bool too_deep = false;
  std::string duplicate;
  std::vector<std::set<std::string>> keys;  // of the objects being read, outermost first
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > kMaxDepth) too_deep = true;
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end && !keys.empty()) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.empty()) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys.back().insert(key).second && duplicate.empty()) duplicate = key.substr(0, kShown);
    }
    return !too_deep;
  };
  json value;
  try {
    value = json::parse(text, watch);
  } catch (const json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": not valid JSON: ", error.what()));
  }
  if (too_deep) return absl::InvalidArgumentError(absl::StrCat(file, ": nested deeper than ", kMaxDepth, " levels"));
  if (!duplicate.empty())
    return absl::InvalidArgumentError(absl::StrCat(file, ": key '", duplicate, "' is given twice: remove one"));
  return value;
}

JsonReader::JsonReader(const json& object, std::string file)
    : object_(&object), file_(std::move(file)), status_(std::make_shared<absl::Status>()) {}

const json* JsonReader::Find(const std::string& key) const {
  const auto it = object_->find(key);
  return it == object_->end() || it->is_null() ? nullptr : &*it;
}

bool JsonReader::Has(const std::string& key) const { return Find(key) != nullptr; }

bool JsonReader::IsNull(const std::string& key) const {
  const auto it = object_->find(key);
  return it != object_->end() && it->is_null();
}

void JsonReader::Fail(const std::string& key, const std::string& what) {
  if (status_->ok()) *status_ = absl::InvalidArgumentError(absl::StrCat(file_, ": ", prefix_, key, ": ", what));
}

int32_t JsonReader::ToInt(const std::string& key, const json& value, int64_t min, int64_t max) {
  // 4096.0 is what some writers make of 4096.
  const bool whole =
      value.is_number_integer() || (value.is_number_float() && std::floor(value.get<double>()) == value.get<double>());
  if (!whole) {
    Fail(key, absl::StrCat("is ", Show(value), "; an integer is expected"));
    return static_cast<int32_t>(min);
  }
  const double wide = value.get<double>();  // exact where it matters: |min|, |max| < 2^53
  if (!(wide >= static_cast<double>(min) && wide <= static_cast<double>(max))) {
    Fail(key, absl::StrCat("is ", Show(value), "; it must be between ", min, " and ", max));
    return static_cast<int32_t>(min);
  }
  return static_cast<int32_t>(wide);
}

int32_t JsonReader::Int(const std::string& key, const IntRange& range) {
  const json* value = Find(key);
  if (value != nullptr) return ToInt(key, *value, range.min, range.max);
  if (!range.fallback) {
    Fail(key, "is missing; an integer is expected");
    return static_cast<int32_t>(range.min);
  }
  return static_cast<int32_t>(*range.fallback);
}

double JsonReader::Number(const std::string& key, const NumberRange& range) {
  const json* value = Find(key);
  if (value == nullptr) {
    if (!range.fallback) Fail(key, "is missing; a number is expected");
    return range.fallback.value_or(0.0);
  }
  if (!value->is_number()) {
    Fail(key, absl::StrCat("is ", Show(*value), "; a number is expected"));
    return 0.0;
  }
  const double number = value->get<double>();
  if (!std::isfinite(number) || number < range.min || number > range.max) {
    Fail(key, absl::StrCat("is ", Show(*value), "; it must be between ", range.min, " and ", range.max));
    return range.fallback.value_or(range.min);
  }
  return number;
}

bool JsonReader::Bool(const std::string& key, bool fallback) {
  const json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) {
    Fail(key, absl::StrCat("is ", Show(*value), "; true or false is expected"));
    return fallback;
  }
  return value->get<bool>();
}

std::string JsonReader::String(const std::string& key, const std::string& fallback) {
  const json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_string()) {
    Fail(key, absl::StrCat("is ", Show(*value), "; a string is expected"));
    return fallback;
  }
  return value->get<std::string>();
}

std::vector<int32_t> JsonReader::IntList(const std::string& key, int64_t min, int64_t max) {
  std::vector<int32_t> list;
  const json* value = Find(key);
  if (value == nullptr) return list;
  if (!value->is_array()) {
    Fail(key, absl::StrCat("is ", Show(*value), "; a list of integers is expected"));
    return list;
  }
  for (size_t i = 0; i < value->size() && ok(); ++i) {
    list.push_back(ToInt(absl::StrCat(key, "[", i, "]"), (*value)[i], min, max));
  }
  return list;
}

std::vector<int32_t> JsonReader::IntOrList(const std::string& key, int64_t min, int64_t max) {
  const json* value = Find(key);
  if (value == nullptr) return {};
  if (!value->is_array()) return {ToInt(key, *value, min, max)};
  return IntList(key, min, max);
}

std::vector<std::string> JsonReader::StringList(const std::string& key) {
  std::vector<std::string> list;
  const json* value = Find(key);
  if (value == nullptr) return list;
  if (!value->is_array()) {
    Fail(key, absl::StrCat("is ", Show(*value), "; a list of strings is expected"));
    return list;
  }
  for (size_t i = 0; i < value->size(); ++i) {
    const json& item = (*value)[i];
    if (!item.is_string()) {
      Fail(absl::StrCat(key, "[", i, "]"), absl::StrCat("is ", Show(item), "; a string is expected"));
      return {};
    }
    list.push_back(item.get<std::string>());
  }
  return list;
}

std::optional<JsonReader> JsonReader::Object(const std::string& key) {
  const json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) {
    Fail(key, absl::StrCat("is ", Show(*value), "; an object is expected"));
    return std::nullopt;
  }
  JsonReader inner(*value, file_);
  inner.prefix_ = absl::StrCat(prefix_, key, ".");
  inner.status_ = status_;
  return inner;
}

}  // namespace hysparse
