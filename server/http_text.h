// The text of HTTP/1.1 answers. Pure functions; any thread.
#pragma once

#include <string>
#include <string_view>

#include "server/http_exchange.h"

namespace hysparse {

std::string HttpDate();  // now, as in "Sun, 06 Nov 1994 08:49:37 GMT"
std::string ResponseHead(int status, const HttpHeaders& headers);
std::string Chunk(std::string_view bytes);  // of chunked transfer coding; `bytes` not empty

// The client's x-request-id when it is short and plain, else a new random one.
std::string RequestId(std::string_view client);

// 32 random hexadecimal digits, for ids that must be unique.
std::string RandomHex();

}  // namespace hysparse
