// Checks of a request against the model, on the submitting thread. The front ends check too, with their API's own
// words; nothing that gets past here can index out of range, overflow or wait for ever.
#pragma once

#include "absl/status/status.h"
#include "engine/model/model_spec.h"
#include "engine/request.h"

namespace hysparse {

// InvalidArgument names the field and the bound.
absl::Status ValidateRequest(const GenerateRequest& request, const ModelSpec& spec, int32_t max_model_len);

}  // namespace hysparse
