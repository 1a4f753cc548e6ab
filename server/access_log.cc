#include "server/access_log.h"

#include <spdlog/spdlog.h>

#include "nlohmann/json.hpp"

namespace hysparse {
namespace {

// The line as one JSON object; bytes that are no UTF-8 are replaced, control characters escaped.
std::string JsonLine(const AccessRecord& record, double seconds) {
  nlohmann::ordered_json line = {{"event", "request"},
                                 {"request_id", record.id},
                                 {"remote", record.remote},
                                 {"method", record.method},
                                 {"path", record.path},
                                 {"status", record.status},
                                 {"ms", static_cast<int64_t>(seconds * 1e6) / 1e3}};
  if (record.prompt_tokens >= 0) {
    line["prompt_tokens"] = record.prompt_tokens;
    line["completion_tokens"] = record.completion_tokens;
    line["stream"] = record.stream;
  }
  return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

// A client's bytes for a terminal: printable ASCII only.
std::string Printable(const std::string& text) {
  std::string out;
  for (char c : text) out += c > ' ' && c < 0x7f ? c : '?';
  return out;
}

}  // namespace

void LogAccess(const AccessRecord& record, bool json) {
  const double seconds = SecondsSince(record.start);
  if (json) {
    spdlog::info("{}", JsonLine(record, seconds));
    return;
  }
  std::string tokens;
  if (record.prompt_tokens >= 0) {
    tokens = fmt::format(", {} + {} tokens", record.prompt_tokens, record.completion_tokens);
  }
  spdlog::info("{} {} {} {:.1f} ms{} [{} {}]", Printable(record.method), Printable(record.path), record.status,
               seconds * 1e3, tokens, record.remote, Printable(record.id));
}

}  // namespace hysparse
