// The one place where a Status becomes what a client reads. Inside, errors are absl::Status; the field at fault and the
// API's error code travel as payloads. Any thread.
//
//   return BadField("temperature", "must lie in [0, 2], not 3");
//   ApiError error = ToApiError(status);   // 400, invalid_request_error, param "temperature"
//
// Source: the OpenAI API's error object; the table stands in server/README.md.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace hysparse {

struct ApiError {
  int http_status = 500;
  std::string message;
  std::string type = "server_error";
  std::string param, code;      // empty: null
  int retry_after_seconds = 0;  // 0: no Retry-After header
};

// InvalidArgument that names the request's field; `code` only where clients know one.
absl::Status BadField(std::string_view field, std::string_view message, std::string_view code = {});

// The prompt (and what is to be generated) against the context, in the wording that clients search for.
absl::Status ContextLengthExceeded(std::string_view field, int64_t max_tokens, int64_t prompt, int64_t completion);

// A 404 `model_not_found`.
absl::Status ModelNotFound(std::string_view model);

ApiError ToApiError(const absl::Status& status);

// An error of the HTTP layer itself (404, 405, 413, 431 …): invalid_request_error unless it is a 5xx.
ApiError HttpError(int http_status, std::string message);

}  // namespace hysparse
