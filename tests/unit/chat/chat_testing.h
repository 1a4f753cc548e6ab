// What the chat tests share: the fixed clock and segments as text.
#pragma once

#include <chrono>
#include <ctime>
#include <string>
#include <vector>

#include "server/chat/chat_template.h"

namespace hysparse {

inline std::string ChatTestFolder() { return std::string(HYSPARSE_SOURCE_DIR) + "/tests/chat"; }

inline std::string Joined(const std::vector<TextSegment>& segments) {
  std::string text;
  for (const TextSegment& segment : segments) text += segment.text;
  return text;
}

// 2024-07-26 12:34:56 in the local zone, as in oracle.py.
inline std::chrono::system_clock::time_point FixedNow() {
  std::tm local{};
  local.tm_year = 2024 - 1900;
  local.tm_mon = 6;
  local.tm_mday = 26;
  local.tm_hour = 12;
  local.tm_min = 34;
  local.tm_sec = 56;
  local.tm_isdst = -1;
  return std::chrono::system_clock::from_time_t(std::mktime(&local));
}

}  // namespace hysparse
