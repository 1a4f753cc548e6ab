// Text for people: digits in groups, decimal sizes, tables in columns. Pure; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hysparse {

std::string GroupDigits(int64_t value);   // "1,048,576"
std::string FormatDecimal(double bytes);  // "6.72 GB": the papers' decimal units
std::string FormatNumber(double value);   // three significant digits, "1,234" from a thousand up
std::string Times(double ratio);          // "9.8×"

// Rows of equal length; the first column is flush left, the others right, two spaces between, `indent` before each
// line.
std::string FormatTable(const std::vector<std::vector<std::string>>& rows, int indent = 2);

}  // namespace hysparse
