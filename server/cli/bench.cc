#include "server/cli/bench.h"

#include <cstdio>

#include "engine/base/result.h"

namespace hysparse {
absl::Status RunBench(const Config&) { return absl::UnimplementedError("x"); }
}  // namespace hysparse
