// The access log: one line per request when it is over, as a JSON object or as text. Never the prompt, the answer or a
// key. Any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "engine/base/clock.h"

namespace hysparse {

struct AccessRecord {
  std::string id, method, path, remote;
  int status = 0;                                      // 499: the client left first
  int32_t prompt_tokens = -1, completion_tokens = -1;  // of a generation
  bool stream = false;
  Clock::time_point start = Clock::now();
};

void LogAccess(const AccessRecord& record, bool json);

}  // namespace hysparse
