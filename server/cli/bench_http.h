// The front end's cost: the same decode as a client of the HTTP server sees it, over loopback. The calling thread is
// the client.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/cli/bench_runs.h"

namespace hysparse {

// Streams one completion of `output` tokens from 127.0.0.1:`port`. Returns the seconds between two tokens less those of
// a forward pass in the same time.
absl::StatusOr<double> HttpOverheadSeconds(uint16_t port, const std::string& model, const std::vector<int32_t>& prompt,
                                           int32_t output, const TimedRunner::Totals& totals);

}  // namespace hysparse
