// Short forms for absl::Status plumbing.
//
//   HYSPARSE_RETURN_IF_ERROR(Check(x));
//   HYSPARSE_ASSIGN_OR_RETURN(auto spec, ReadModelSpec(folder));
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define HYSPARSE_CONCAT_INNER(a, b) a##b
#define HYSPARSE_CONCAT(a, b) HYSPARSE_CONCAT_INNER(a, b)

#define HYSPARSE_RETURN_IF_ERROR(expr)                 \
  do {                                                 \
    ::absl::Status hysparse_status = (expr);           \
    if (!hysparse_status.ok()) return hysparse_status; \
  } while (false)

#define HYSPARSE_ASSIGN_OR_RETURN(lhs, expr) \
  HYSPARSE_ASSIGN_OR_RETURN_IMPL(HYSPARSE_CONCAT(hysparse_or_, __LINE__), lhs, expr)
#define HYSPARSE_ASSIGN_OR_RETURN_IMPL(tmp, lhs, expr) \
  auto tmp = (expr);                                   \
  if (!tmp.ok()) return tmp.status();                  \
  lhs = std::move(tmp).value()
