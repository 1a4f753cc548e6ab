// `hysparse simulate`: how a workload would run on GPUs that are not there, as JSON on stdout, or the main figures as
// text. Loads no weights. Main thread.
#pragma once

#include "absl/status/status.h"
#include "server/cli/config.h"

namespace hysparse {

absl::Status RunSimulate(const Config& config);

}  // namespace hysparse
