// What the forecast needs of a scheduler, copied out as plain data. Called on the thread that owns the scheduler, after
// its last plan: O(running + waiting), no page and no token is looked at.
#pragma once

#include "engine/kv/block_manager.h"
#include "engine/schedule/forecast.h"
#include "engine/schedule/scheduler.h"

namespace hysparse {

// All but the rates, the length ratio, next_id and under_way. Choices that wait for the first one's prompt stand in the
// queue as they will.
ForecastInput SnapshotOf(const Scheduler& scheduler, const BlockManager& blocks);

}  // namespace hysparse
