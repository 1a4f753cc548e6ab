#include "server/error_map.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

namespace hysparse {
namespace {

constexpr std::string_view kField = "hysparse/field";
constexpr std::string_view kCode = "hysparse/code";

std::string Payload(const absl::Status& status, std::string_view key) {
  const auto value = status.GetPayload(absl::string_view(key.data(), key.size()));
  return value ? std::string(*value) : std::string();
}

// HTTP status and type of each canonical code; whatever is not listed is our own fault.
struct Mapping {
  absl::StatusCode code;
  int http_status;
  const char* type;
  int retry_after_seconds;
};
constexpr Mapping kMappings[] = {
    {absl::StatusCode::kInvalidArgument, 400, "invalid_request_error", 0},
    {absl::StatusCode::kOutOfRange, 400, "invalid_request_error", 0},
    {absl::StatusCode::kUnimplemented, 400, "invalid_request_error", 0},
    {absl::StatusCode::kUnauthenticated, 401, "invalid_request_error", 0},
    {absl::StatusCode::kPermissionDenied, 403, "invalid_request_error", 0},
    {absl::StatusCode::kNotFound, 404, "invalid_request_error", 0},
    {absl::StatusCode::kResourceExhausted, 429, "rate_limit_error", 1},
    {absl::StatusCode::kUnavailable, 503, "server_error", 5},
};

}  // namespace

absl::Status BadField(std::string_view field, std::string_view message, std::string_view code) {
  absl::Status status = absl::InvalidArgumentError(
      field.empty() ? std::string(message)
                    : absl::StrCat("'", absl::string_view(field.data(), field.size()), "' ", std::string(message)));
  if (!field.empty())
    status.SetPayload(absl::string_view(kField.data(), kField.size()), absl::Cord(std::string(field)));
  if (!code.empty()) status.SetPayload(absl::string_view(kCode.data(), kCode.size()), absl::Cord(std::string(code)));
  return status;
}

absl::Status ContextLengthExceeded(std::string_view field, int64_t max_tokens, int64_t prompt, int64_t completion) {
  const char* what = field == "messages" ? "messages" : "prompt";
  std::string message =
      completion > 0
          ? absl::StrCat("This model's maximum context length is ", max_tokens, " tokens. However, you requested ",
                         prompt + completion, " tokens (", prompt, " in the ", what, ", ", completion,
                         " in the completion). Please reduce the length of the ", what, " or completion.")
          : absl::StrCat("This model's maximum context length is ", max_tokens, " tokens. However, your ", what,
                         " resulted in ", prompt, " tokens. Please reduce the length of the ", what, ".");
  absl::Status status = BadField("", message, "context_length_exceeded");
  status.SetPayload(absl::string_view(kField.data(), kField.size()), absl::Cord(std::string(field)));
  return status;
}

absl::Status ModelNotFound(std::string_view model) {
  absl::Status status = absl::NotFoundError(
      absl::StrCat("The model `", std::string(model), "` does not exist. GET /v1/models lists what is served."));
  status.SetPayload(absl::string_view(kField.data(), kField.size()), absl::Cord("model"));
  status.SetPayload(absl::string_view(kCode.data(), kCode.size()), absl::Cord("model_not_found"));
  return status;
}

ApiError ToApiError(const absl::Status& status) {
  ApiError error;
  error.message = std::string(status.message());
  error.param = Payload(status, kField);
  error.code = Payload(status, kCode);
  for (const Mapping& mapping : kMappings) {
    if (mapping.code != status.code()) continue;
    error.http_status = mapping.http_status;
    error.type = mapping.type;
    error.retry_after_seconds = mapping.retry_after_seconds;
  }
  if (error.http_status == 401 && error.code.empty()) error.code = "invalid_api_key";
  if (error.http_status == 429 && error.code.empty()) error.code = "rate_limit_exceeded";
  return error;
}

ApiError HttpError(int http_status, std::string message) {
  ApiError error;
  error.http_status = http_status;
  error.message = std::move(message);
  if (http_status < 500) error.type = "invalid_request_error";
  return error;
}

}  // namespace hysparse
