// `hysparse serve`: listens at once, loads, serves until SIGTERM or SIGINT, drains. Main thread.
#pragma once

#include "absl/status/status.h"
#include "server/cli/config.h"

namespace hysparse {

absl::Status RunServe(const Config& config);

}  // namespace hysparse
