// Counts this thread's heap allocations through operator new, to show that a step makes none.
#pragma once

#include <cstdint>

namespace hysparse {

int64_t AllocationCount();

}  // namespace hysparse
