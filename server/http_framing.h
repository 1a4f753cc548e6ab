// The head of an HTTP/1.x request, checked more strictly than Boost.Beast does: what two parsers could read differently
// is refused. Pure functions; the connection closes after any error.
//
// Refused: Content-Length with Transfer-Encoding in either order, either of them twice, a Transfer-Encoding that is not
// exactly "chunked", any on HTTP/1.0, folded lines, bare CR or LF, whitespace before the colon, control characters, a
// missing or second Host, versions other than 1.0 and 1.1. Source: RFC 9112; the security design's row on HTTP framing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "server/http_exchange.h"

namespace hysparse {

// Bytes of `input` up to and including the empty line that ends the head; npos when it is not there yet.
size_t FindHeadEnd(std::string_view input);

struct RequestHead {
  HttpRequest request;  // method, target, path, version, headers
  bool keep_alive = true;
  bool chunked = false, expect_continue = false;
  uint64_t content_length = 0;
};

struct HeadError {
  int status = 0;  // 0: none
  std::string message;
};

HeadError ParseHead(std::string_view head, size_t max_body_bytes, RequestHead* out);

}  // namespace hysparse
