// Turns "this sequence computes its next `count` tokens" into plain data: tokens, changes of its block tables, and the
// rows to score or sample with their sampling state. Engine thread.
#pragma once

#include <cstdint>

#include "engine/schedule/step_plan.h"
#include "engine/sequence.h"

namespace hysparse {

// `sequence.kv()->BeginAppend(count)` has been called; 1 <= count <= pending_tokens(), and 1 when a token is in flight.
// Tells the sequence what was planned. The chunk's tables are for AppendTables.
void AppendChunk(Sequence& sequence, int32_t count, StepPlan& plan);
// When all of the plan's pages are taken: what changed in the chunk's block tables.
void AppendTables(SequenceKv& kv, PlannedChunk& chunk, StepPlan& plan);

}  // namespace hysparse
