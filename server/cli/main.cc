// The `hysparse` executable: reads the config, runs the command, says in one line what went wrong. Exit codes: 0 done,
// 1 failed while running, 2 wrong flags, files or model.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "server/cli/bench.h"
#include "server/cli/config.h"
#include "server/cli/generate.h"
#include "server/cli/plan.h"
#include "server/cli/serve.h"
#include "server/cli/simulate.h"

namespace hysparse {
namespace {

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "hysparse: %s\n", std::string(status.message()).c_str());
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kOutOfRange:
      return 2;
    default:
      return 1;
  }
}

absl::Status Run(const Config& config) {
  switch (config.command) {
    case kServe:
      return RunServe(config);
    case kPlan:
      return RunPlan(config);
    case kGenerate:
      return RunGenerate(config);
    case kSimulate:
      return RunSimulate(config);
    case kBench:
      return RunBench(config);
  }
  return absl::InternalError("unknown command");
}

int Main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const auto read = ReadConfig(arguments, [](const std::string& name) { return std::getenv(name.c_str()); });
  if (!read.ok()) return Fail(read.status());
  if (read->printed) {
    std::fwrite(read->printed->text.data(), 1, read->printed->text.size(), stdout);
    return 0;
  }
  const absl::Status status = Run(read->config);
  return status.ok() ? 0 : Fail(status);
}

}  // namespace
}  // namespace hysparse

int main(int argc, char** argv) {
  try {
    return hysparse::Main(argc, argv);
  } catch (const std::exception& error) {  // nothing of ours throws; what a library throws ends in one line too
    std::fprintf(stderr, "hysparse: %s\n", error.what());
    return 1;
  }
}
