#include "engine/text/json_view.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "engine/base/result.h"
#include "engine/text/string_view.h"

namespace hysparse {

absl::Status JsonView::Error(std::string_view what) const {
  return absl::InvalidArgumentError(absl::StrCat(path_, ": ", View(what)));
}

absl::Status JsonView::At(const absl::Status& status) const {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(path_, ": ", status.message()));
}

bool JsonView::IsNull() const { return value_->is_null(); }

const nlohmann::json* JsonView::Find(const char* key) const {
  if (!value_->is_object()) return nullptr;
  const auto found = value_->find(key);
  return found == value_->end() || found->is_null() ? nullptr : &*found;
}

bool JsonView::Has(const char* key) const { return Find(key) != nullptr; }

absl::StatusOr<JsonView> JsonView::Child(const char* key) const {
  if (!value_->is_object()) return Error("must be an object");
  const nlohmann::json* child = Find(key);
  if (child == nullptr) return Error(absl::StrCat("'", key, "' is missing"));
  return JsonView(*child, absl::StrCat(path_, ".", key));
}

absl::StatusOr<JsonView> JsonView::Object(const char* key) const {
  HYSPARSE_ASSIGN_OR_RETURN(JsonView child, Child(key));
  if (!child.value().is_object()) return child.Error("must be an object");
  return child;
}

absl::StatusOr<std::vector<JsonView>> JsonView::Array(const char* key) const {
  HYSPARSE_ASSIGN_OR_RETURN(const JsonView child, Child(key));
  if (!child.value().is_array()) return child.Error("must be an array");
  std::vector<JsonView> views;
  views.reserve(child.value().size());
  for (const auto& element : child.value()) {
    views.emplace_back(element, absl::StrCat(child.path(), "[", views.size(), "]"));
  }
  return views;
}

absl::StatusOr<std::string> JsonView::String(const char* key) const {
  HYSPARSE_ASSIGN_OR_RETURN(const JsonView child, Child(key));
  if (!child.value().is_string()) return child.Error("must be a string");
  return child.value().get_ref<const std::string&>();
}

absl::StatusOr<std::string> JsonView::String(const char* key, std::string_view fallback) const {
  if (!Has(key)) return std::string(fallback);
  return String(key);
}

absl::StatusOr<bool> JsonView::Bool(const char* key) const {
  HYSPARSE_ASSIGN_OR_RETURN(const JsonView child, Child(key));
  if (!child.value().is_boolean()) return child.Error("must be true or false");
  return child.value().get<bool>();
}

absl::StatusOr<bool> JsonView::Bool(const char* key, bool fallback) const {
  if (!Has(key)) return fallback;
  return Bool(key);
}

absl::StatusOr<int64_t> JsonView::Integer(const char* key) const {
  HYSPARSE_ASSIGN_OR_RETURN(const JsonView child, Child(key));
  if (!child.value().is_number_integer()) return child.Error("must be an integer");
  if (child.value().is_number_unsigned() && child.value().get<uint64_t>() > INT64_MAX)
    return child.Error("is too large");
  return child.value().get<int64_t>();
}

std::optional<int32_t> JsonView::AsId(const nlohmann::json& value) {
  if (!value.is_number_integer()) return std::nullopt;
  const bool huge = value.is_number_unsigned() && value.get<uint64_t>() >= static_cast<uint64_t>(kMaxVocabulary);
  if (huge || value.get<int64_t>() < 0 || value.get<int64_t>() >= kMaxVocabulary) return std::nullopt;
  return value.get<int32_t>();
}

absl::StatusOr<int32_t> JsonView::Id(const char* key) const {
  HYSPARSE_ASSIGN_OR_RETURN(const JsonView child, Child(key));
  const std::optional<int32_t> id = AsId(child.value());
  if (!id.has_value()) return child.Error(absl::StrCat("must be an id in [0, ", kMaxVocabulary, ")"));
  return *id;
}

}  // namespace hysparse
