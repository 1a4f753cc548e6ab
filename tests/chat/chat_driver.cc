// Renders templates for the differential tests. Reads one JSON object a line on stdin,
// {"template": "…", "trusted": {…}, "untrusted": {…}}, and answers each with one line: {"segments": [[text, trusted],
// …]} or {"error": "…"}. The clock stands at 2024-07-26 12:34:56 in the local zone.
#include <ctime>
#include <iostream>
#include <string>

#include "nlohmann/json.hpp"
#include "server/chat/jinja/template.h"

namespace {

using Json = nlohmann::ordered_json;

std::chrono::system_clock::time_point FixedNow() {
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

Json Answer(const Json& request) {
  Json answer = Json::object();
  auto parsed = hysparse::jinja::Template::Parse(request["template"].get_ref<const std::string&>());
  if (!parsed.ok()) {
    answer["error"] = std::string(parsed.status().message());
    return answer;
  }
  auto text =
      parsed->Render(request.value("trusted", Json::object()), request.value("untrusted", Json::object()), FixedNow());
  if (!text.ok()) {
    answer["error"] = std::string(text.status().message());
    return answer;
  }
  answer["segments"] = Json::array();
  size_t begin = 0;
  for (const auto& run : text->runs()) {
    answer["segments"].push_back({text->str().substr(begin, run.end - begin), run.trusted});
    begin = run.end;
  }
  return answer;
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    const Json request = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!request.is_object() || !request.contains("template") || !request["template"].is_string()) {
      std::cerr << "not a request: " << line << "\n";
      return 2;
    }
    std::cout << Answer(request).dump(-1, ' ', false, Json::error_handler_t::replace) << std::endl;
  }
  return 0;
}
