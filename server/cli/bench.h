// `hysparse bench`: prefill and decode speed of a model on this machine, as fractions of the ceilings that are measured
// in the same run. Main thread.
#pragma once

#include "absl/status/status.h"
#include "server/cli/config.h"

namespace hysparse {

absl::Status RunBench(const Config& config);

}  // namespace hysparse
