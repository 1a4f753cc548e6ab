// RoPE frequencies with linear, llama3 or yarn scaling applied, as transformers computes them. Pure functions.
#pragma once

#include "engine/model/model_keys.h"
#include "engine/model/model_spec.h"

namespace hysparse {

// The rotation of heads of `head_dim` dims. The rotating dims are the even part of head_dim * keys.partial.
RopeSpec MakeRope(const RopeKeys& keys, int32_t head_dim, int32_t max_context);

}  // namespace hysparse
