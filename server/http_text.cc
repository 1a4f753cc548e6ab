#include "server/http_text.h"

#include <algorithm>
#include <boost/beast/http/status.hpp>
#include <ctime>
#include <random>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace hysparse {

std::string HttpDate() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[64];
  return std::string(text, std::strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &utc));
}

std::string ResponseHead(int status, const HttpHeaders& headers) {
  const auto reason = boost::beast::http::obsolete_reason(static_cast<boost::beast::http::status>(status));
  std::string head = absl::StrCat("HTTP/1.1 ", status, " ", std::string(reason), "\r\n");
  for (const auto& [name, value] : headers) absl::StrAppend(&head, name, ": ", value, "\r\n");
  head += "\r\n";
  return head;
}

std::string Chunk(std::string_view bytes) {
  return absl::StrCat(absl::Hex(bytes.size()), "\r\n", std::string(bytes), "\r\n");
}

std::string RandomHex() {
  thread_local std::mt19937_64 generator{(uint64_t{std::random_device{}()} << 32) ^ std::random_device{}()};
  return absl::StrCat(absl::Hex(generator(), absl::kZeroPad16), absl::Hex(generator(), absl::kZeroPad16));
}

std::string RequestId(std::string_view client) {
  const auto plain = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.' || c == ':' ||
           c == '/';
  };
  if (!client.empty() && client.size() <= 128 && std::all_of(client.begin(), client.end(), plain))
    return std::string(client);
  return absl::StrCat("req-", RandomHex());
}

}  // namespace hysparse
