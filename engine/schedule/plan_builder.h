// Turns "this sequence computes its next `count` tokens" into plain data: tokens, block tables, and the rows to score
// or sample with their sampling state. Engine thread; pure.
#pragma once

#include <cstdint>

#include "engine/schedule/step_plan.h"
#include "engine/sequence.h"

namespace hysparse {

// `sequence.kv()->BeginAppend(count)` has been called. count >= 1.
void AppendChunk(const Sequence& sequence, int32_t count, StepPlan& plan);

}  // namespace hysparse
