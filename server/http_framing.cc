#include "server/http_framing.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace hysparse {
namespace {

constexpr size_t kMaxHeaders = 100;

bool IsTokenChar(char c) {
  constexpr std::string_view kSymbols = "!#$%&'*+-.^_`|~";
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || kSymbols.find(c) != std::string_view::npos;
}

bool IsToken(std::string_view s) { return !s.empty() && std::all_of(s.begin(), s.end(), IsTokenChar); }

bool IsFieldValueChar(char c) { return c == '\t' || (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f); }

std::string Lower(std::string_view s) {
  std::string lower(s);
  absl::AsciiStrToLower(&lower);
  return lower;
}

std::string_view Trim(std::string_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = absl::ascii_tolower(static_cast<unsigned char>(c));
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

bool PercentDecode(std::string_view s, std::string* out) {
  for (size_t i = 0; i < s.size(); ++i) {
    if (s[i] != '%') {
      *out += s[i];
      continue;
    }
    if (i + 2 >= s.size() || HexDigit(s[i + 1]) < 0 || HexDigit(s[i + 2]) < 0) return false;
    *out += static_cast<char>(HexDigit(s[i + 1]) * 16 + HexDigit(s[i + 2]));
    i += 2;
  }
  return out->find('\0') == std::string::npos;
}

// origin-form, absolute-form (the authority is dropped), or "*".
bool ParseTarget(std::string_view target, std::string* path) {
  if (target == "*") {
    *path = "*";
    return true;
  }
  const size_t scheme = target.find("://");
  if (!target.empty() && target[0] != '/' && scheme != std::string_view::npos) {
    const std::string name = Lower(target.substr(0, scheme));
    if (name != "http" && name != "https") return false;
    const size_t slash = target.find('/', scheme + 3);
    target = slash == std::string_view::npos ? std::string_view("/") : target.substr(slash);
  }
  if (target.empty() || target[0] != '/') return false;
  return PercentDecode(target.substr(0, target.find_first_of("?#")), path);
}

HeadError ParseRequestLine(std::string_view line, HttpRequest* request) {
  const size_t first = line.find(' ');
  const size_t second = first == std::string_view::npos ? first : line.find(' ', first + 1);
  if (second == std::string_view::npos || line.find(' ', second + 1) != std::string_view::npos) {
    return {400, "The request line is not METHOD SP target SP HTTP/1.1."};
  }
  const std::string_view method = line.substr(0, first), target = line.substr(first + 1, second - first - 1);
  const std::string_view version = line.substr(second + 1);
  if (!IsToken(method) || method.size() > 32) return {400, "The request method is malformed."};
  if (std::any_of(target.begin(), target.end(), [](char c) { return c <= 0x20 || c == 0x7f; })) {
    return {400, "The request target has characters that must be percent-encoded."};
  }
  if (version == "HTTP/1.1") {
    request->version = 11;
  } else if (version == "HTTP/1.0") {
    request->version = 10;
  } else {
    return {400, "Only HTTP/1.1 and HTTP/1.0 are spoken here."};
  }
  if (!ParseTarget(target, &request->path)) return {400, "The request target is malformed."};
  request->method = std::string(method);
  request->target = std::string(target);
  return {};
}

HeadError ParseHeaderLine(std::string_view line, HttpHeaders* headers) {
  if (line.front() == ' ' || line.front() == '\t') return {400, "Folded header lines are not accepted."};
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos || !IsToken(line.substr(0, colon))) return {400, "A header line is malformed."};
  const std::string_view value = Trim(line.substr(colon + 1));
  if (!std::all_of(value.begin(), value.end(), IsFieldValueChar)) {
    return {400, "A header value has control characters."};
  }
  if (headers->size() == kMaxHeaders) return {431, "There are too many header lines."};
  headers->emplace_back(Lower(line.substr(0, colon)), std::string(value));
  return {};
}

size_t Count(const HttpHeaders& headers, std::string_view name) {
  return std::count_if(headers.begin(), headers.end(), [&](const auto& h) { return h.first == name; });
}

HeadError CheckHost(const HttpRequest& request) {
  const size_t hosts = Count(request.headers, "host");
  if (hosts > 1) return {400, "There is more than one Host header."};
  if (hosts == 0) return request.version == 11 ? HeadError{400, "The Host header is missing."} : HeadError{};
  for (char c : request.Header("host")) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) &&
        std::string_view("-._~:[]%").find(c) == std::string_view::npos) {
      return {400, "The Host header is malformed."};
    }
  }
  return {};
}

// How long the body is, or why that cannot be said with certainty.
HeadError CheckBodyLength(size_t max_body_bytes, RequestHead* head) {
  const HttpRequest& request = head->request;
  const size_t lengths = Count(request.headers, "content-length"),
               codings = Count(request.headers, "transfer-encoding");
  if (lengths > 0 && codings > 0) return {400, "Content-Length and Transfer-Encoding exclude each other."};
  if (lengths > 1) return {400, "There is more than one Content-Length header."};
  if (codings > 1) return {400, "There is more than one Transfer-Encoding header."};
  if (codings == 1) {
    if (request.version == 10) return {400, "HTTP/1.0 has no Transfer-Encoding."};
    if (Lower(request.Header("transfer-encoding")) != "chunked") {
      return {400, "The only Transfer-Encoding accepted is chunked."};
    }
    head->chunked = true;
  }
  if (lengths == 1) {
    const std::string_view value = request.Header("content-length");
    const bool digits =
        !value.empty() && std::all_of(value.begin(), value.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (!digits) return {400, "The Content-Length header is malformed."};
    if (value.size() > 18) return {413, "The request body is too large."};
    head->content_length = std::stoull(std::string(value));
    if (head->content_length > max_body_bytes) {
      return {413,
              "The request body is larger than the " + std::to_string(max_body_bytes) + " bytes that are accepted."};
    }
  }
  return {};
}

// The value of a Connection header holds `token`.
bool HasToken(std::string_view list, std::string_view token) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    if (Lower(Trim(list.substr(0, comma))) == token) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

}  // namespace

size_t FindHeadEnd(std::string_view input) {
  const size_t end = input.find("\r\n\r\n");
  return end == std::string_view::npos ? end : end + 4;
}

HeadError ParseHead(std::string_view head, size_t max_body_bytes, RequestHead* out) {
  HttpRequest& request = out->request;
  bool first = true;
  head.remove_suffix(2);  // the empty line
  while (!head.empty()) {
    const size_t end = head.find("\r\n");
    const std::string_view line = head.substr(0, end);
    head.remove_prefix(end + 2);
    if (line.find_first_of(std::string_view("\r\n\0", 3)) != std::string_view::npos) {
      return {400, "The request head has bare CR, LF or NUL characters."};
    }
    const HeadError error = first ? ParseRequestLine(line, &request) : ParseHeaderLine(line, &request.headers);
    if (error.status != 0) return error;
    first = false;
  }
  if (const HeadError error = CheckHost(request); error.status != 0) return error;
  if (const HeadError error = CheckBodyLength(max_body_bytes, out); error.status != 0) return error;
  const std::string_view connection = request.Header("connection");
  out->keep_alive = request.version == 11 ? !HasToken(connection, "close") : HasToken(connection, "keep-alive");
  const std::string expect = Lower(request.Header("expect"));
  if (!expect.empty() && expect != "100-continue") return {417, "The only expectation met is 100-continue."};
  out->expect_continue = !expect.empty() && request.version == 11;
  return {};
}

}  // namespace hysparse
