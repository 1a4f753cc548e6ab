// Parsers of option values. Each returns a function for Option::set that stores into the referenced variable, or says
// what would be right.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace hysparse {

using OptionSetter = std::function<absl::Status(const std::vector<std::string>&)>;

// "2GiB", "512 MiB", "1.5GB", "1024": bytes.
absl::StatusOr<int64_t> ParseSize(const std::string& text);
std::string FormatSize(int64_t bytes);  // "2.0 GiB"

OptionSetter Text(std::string& out);
OptionSetter TextList(std::vector<std::string>& out);      // each value may hold several, separated by commas
OptionSetter LinesOfFiles(std::vector<std::string>& out);  // each value names a file; its lines are added
OptionSetter OneOf(std::string& out, std::vector<std::string> choices);
OptionSetter Switch(bool& out);  // true, false, 1, 0, yes, no, on, off
OptionSetter Size(int64_t& out);

template <typename T>
absl::StatusOr<T> ParseNumber(const std::string& text, T min, T max) {
  bool ok = false;
  T value{};
  if constexpr (std::is_floating_point_v<T>) {
    ok = absl::SimpleAtod(text, &value);
  } else if constexpr (std::is_same_v<T, uint64_t>) {
    ok = absl::SimpleAtoi(text, &value);
  } else {
    int64_t wide = 0;
    ok = absl::SimpleAtoi(text, &wide) && wide >= int64_t{min} && wide <= int64_t{max};
    value = static_cast<T>(wide);
  }
  if (ok && value >= min && value <= max) return value;
  const char* kind = std::is_floating_point_v<T> ? "number" : "whole number";
  if (max == std::numeric_limits<T>::max()) {
    return absl::InvalidArgumentError(absl::StrCat("'", text, "' is not a ", kind, " of at least ", min));
  }
  return absl::InvalidArgumentError(absl::StrCat("'", text, "' is not a ", kind, " from ", min, " to ", max));
}

template <typename T>
OptionSetter Number(T& out, T min, T max = std::numeric_limits<T>::max()) {
  return [&out, min, max](const std::vector<std::string>& values) -> absl::Status {
    absl::StatusOr<T> value = ParseNumber<T>(values.back(), min, max);
    if (!value.ok()) return value.status();
    out = *value;
    return absl::OkStatus();
  };
}

template <typename T>
OptionSetter Number(std::optional<T>& out, T min, T max = std::numeric_limits<T>::max()) {
  return [&out, min, max](const std::vector<std::string>& values) -> absl::Status {
    absl::StatusOr<T> value = ParseNumber<T>(values.back(), min, max);
    if (!value.ok()) return value.status();
    out = *value;
    return absl::OkStatus();
  };
}

}  // namespace hysparse
