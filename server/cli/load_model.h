// From a config to a running engine: the folder, the spec, tokenizer and template, weights, the KV arena, one worker.
// Called on main's thread by serve, generate and bench; the model it returns is read by any thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/run/executor.h"
#include "server/cli/config.h"
#include "server/served_model.h"

namespace hysparse {

struct LoadHooks {
  std::function<void(double)> progress;  // 0 … 1, on the loading thread
  EngineObserver* observer = nullptr;    // outlives the model
  // Puts something between rank thread and worker: bench measures there.
  std::function<std::unique_ptr<StepRunner>(std::unique_ptr<StepRunner>)> wrap_runner;
};

struct LoadedModel {
  std::unique_ptr<ServedModel> model;  // its engine is started
  DType dtype = DType::kF32;           // of compute and KV cache
  int64_t parameters = 0;
  std::string device;  // what the backend says of itself
  double seconds = 0;
  std::vector<std::string> summary;   // the start-up summary, line by line
  std::vector<std::string> warnings;  // one line each
};

// Errors are one line that names the file or the flag and what to change.
absl::StatusOr<LoadedModel> LoadModel(const Config& config, const LoadHooks& hooks);

}  // namespace hysparse
