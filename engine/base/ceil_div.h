// Division that rounds up, for counts of pages, panels and blocks.
#pragma once

#include <cstdint>

namespace hysparse {

// The least n with n * b >= a, for a >= 0 and b > 0.
constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace hysparse
