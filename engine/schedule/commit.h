// What follows from a step's results for a sequence, in the scheduler and in the KV cache. Engine and simulator commit
// through these two, so that the simulator cannot drift from what it simulates. Engine thread.
#pragma once

#include "engine/kv/block_manager.h"
#include "engine/schedule/scheduler.h"
#include "engine/sequence.h"

namespace hysparse {

// The step is done and `sequence`'s rows were taken, Accept saying `accepted` to the last. Leaves its whole pages to
// others. What ends it, kNone if it goes on; the caller then calls EndSequence.
FinishReason CommitChunk(Sequence& sequence, FinishReason accepted, BlockManager& blocks);

// Ends a sequence, running, spilled or waiting: pages that others may use stay in the prefix cache, unless it failed.
// It may be gone afterwards if the scheduler held the last reference.
void EndSequence(Sequence& sequence, FinishReason reason, BlockManager& blocks, Scheduler& scheduler);

}  // namespace hysparse
