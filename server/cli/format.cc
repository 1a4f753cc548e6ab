#include "server/cli/format.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace hysparse {
namespace {

// Columns on a terminal: code points, which is right for what these tables hold.
size_t Width(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

}  // namespace

std::string GroupDigits(int64_t value) {
  std::string digits = absl::StrCat(value);
  const int start = value < 0 ? 1 : 0;
  for (int at = static_cast<int>(digits.size()) - 3; at > start; at -= 3)
    digits.insert(static_cast<size_t>(at), 1, ',');
  return digits;
}

std::string FormatDecimal(double bytes) {
  constexpr const char* kUnits[] = {"B", "KB", "MB", "GB", "TB", "PB"};
  size_t unit = 0;
  while (bytes >= 1000 && unit + 1 < std::size(kUnits)) {
    bytes /= 1000;
    ++unit;
  }
  if (unit == 0) return absl::StrFormat("%.0f B", bytes);
  return absl::StrFormat("%.2f %s", bytes, kUnits[unit]);
}

std::string FormatNumber(double value) {
  if (value >= 999.5) return GroupDigits(std::llround(value));
  return absl::StrFormat("%.*f", value >= 99.5 ? 0 : value >= 9.95 ? 1 : 2, value);
}

std::string Times(double ratio) { return absl::StrFormat("%.*f×", ratio < 10 ? 1 : 0, ratio); }

std::string FormatTable(const std::vector<std::vector<std::string>>& rows, int indent) {
  std::vector<size_t> width;
  for (const std::vector<std::string>& row : rows) {
    width.resize(std::max(width.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) width[i] = std::max(width[i], Width(row[i]));
  }
  std::string text;
  for (const std::vector<std::string>& row : rows) {
    std::string line(static_cast<size_t>(indent), ' ');
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string padding(width[i] - Width(row[i]), ' ');
      absl::StrAppend(&line, i == 0 ? "" : "  ", i == 0 ? "" : padding, row[i], i == 0 ? padding : "");
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

}  // namespace hysparse
