// Sets up the process's log (spdlog) on stderr: text for people, or one JSON object a line. Main thread, once.
#pragma once

#include <string>

namespace hysparse {

void SetUpLogging(const std::string& level, const std::string& format);

// The line that --log-format json prints: {"time": …, "level": …, "message": …}; a message that is a JSON object itself
// (the access log's) is merged in. For the tests.
std::string JsonLogLine(const std::string& time, const std::string& level, const std::string& message);

}  // namespace hysparse
