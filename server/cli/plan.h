// `hysparse plan`: what a model keeps per token and how many sessions fit, from its config.json alone.
#pragma once

#include "absl/status/statusor.h"
#include "engine/model/model_spec.h"
#include "server/cli/config.h"

namespace hysparse {

struct PlanInput {
  std::string name;
  ModelSpec spec;
  int64_t element_bytes = 2;
  int64_t memory = 0;   // bytes for KV
  int64_t context = 0;  // 0: none asked for
  bool memory_is_given = true;
};

std::string PlanAsText(const PlanInput& input);
std::string PlanAsJson(const PlanInput& input);

absl::Status RunPlan(const Config& config);

}  // namespace hysparse
