#include "server/cli/option_values.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "engine/base/file.h"
#include "engine/base/result.h"

namespace hysparse {

absl::StatusOr<int64_t> ParseSize(const std::string& text) {
  constexpr struct {
    const char* suffix;
    double bytes;
  } kUnits[] = {{"kib", 0x1p10}, {"mib", 0x1p20}, {"gib", 0x1p30}, {"tib", 0x1p40}, {"kb", 1e3},
                {"mb", 1e6},     {"gb", 1e9},     {"tb", 1e12},    {"k", 0x1p10},   {"m", 0x1p20},
                {"g", 0x1p30},   {"t", 0x1p40},   {"b", 1},        {"", 1}};
  const std::string lower = absl::AsciiStrToLower(absl::StripAsciiWhitespace(text));
  for (const auto& unit : kUnits) {
    if (!lower.ends_with(unit.suffix)) continue;
    const std::string number = lower.substr(0, lower.size() - std::string(unit.suffix).size());
    double value = 0;
    if (absl::SimpleAtod(number, &value) && value > 0 && value * unit.bytes >= 1 && value * unit.bytes < 0x1p60) {
      return static_cast<int64_t>(value * unit.bytes);
    }
    break;
  }
  return absl::InvalidArgumentError(absl::StrCat("'", text, "' is not a size such as 2GiB, 512MiB or 1500000000"));
}

std::string FormatSize(int64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  if (unit == 0) return absl::StrCat(bytes, " B");
  return absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

OptionSetter Text(std::string& out) {
  return [&out](const std::vector<std::string>& values) -> absl::Status {
    out = values.back();
    return absl::OkStatus();
  };
}

OptionSetter TextList(std::vector<std::string>& out) {
  return [&out](const std::vector<std::string>& values) -> absl::Status {
    std::vector<std::string> items;
    for (const std::string& value : values) {
      for (absl::string_view item : absl::StrSplit(value, ',')) {
        item = absl::StripAsciiWhitespace(item);
        if (item.empty()) return absl::InvalidArgumentError("an empty value is not allowed");
        items.emplace_back(item);
      }
    }
    out = std::move(items);
    return absl::OkStatus();
  };
}

OptionSetter LinesOfFiles(std::vector<std::string>& out) {
  return [&out](const std::vector<std::string>& values) -> absl::Status {
    for (const std::string& path : values) {
      HYSPARSE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, 1 << 20));
      const size_t before = out.size();
      for (absl::string_view line : absl::StrSplit(text, '\n')) {
        line = absl::StripAsciiWhitespace(line);
        if (!line.empty()) out.emplace_back(line);
      }
      if (out.size() == before) return absl::InvalidArgumentError(absl::StrCat(path, " holds nothing"));
    }
    return absl::OkStatus();
  };
}

OptionSetter OneOf(std::string& out, std::vector<std::string> choices) {
  return [&out, choices = std::move(choices)](const std::vector<std::string>& values) -> absl::Status {
    if (std::find(choices.begin(), choices.end(), values.back()) == choices.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", values.back(), "' is not one of ", absl::StrJoin(choices, ", ")));
    }
    out = values.back();
    return absl::OkStatus();
  };
}

OptionSetter Switch(bool& out) {
  return [&out](const std::vector<std::string>& values) -> absl::Status {
    if (!absl::SimpleAtob(values.back(), &out) && values.back() != "on" && values.back() != "off") {
      return absl::InvalidArgumentError(absl::StrCat("'", values.back(), "' is neither true nor false"));
    }
    if (values.back() == "on") out = true;
    if (values.back() == "off") out = false;
    return absl::OkStatus();
  };
}

OptionSetter Size(int64_t& out) {
  return [&out](const std::vector<std::string>& values) -> absl::Status {
    absl::StatusOr<int64_t> bytes = ParseSize(values.back());
    if (!bytes.ok()) return bytes.status();
    out = *bytes;
    return absl::OkStatus();
  };
}

}  // namespace hysparse
