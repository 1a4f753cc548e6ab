// `hysparse generate`: one answer on stdout, or a conversation when no prompt is given. Main thread.
#pragma once

#include "absl/status/status.h"
#include "server/cli/config.h"

namespace hysparse {

absl::Status RunGenerate(const Config& config);

}  // namespace hysparse
