// How many tokens before a position a rebuild has to compute, layer by layer. Pure arithmetic; any thread.
//
// Let K and V of the full layers be cached for all positions below P, and nothing of the window layers. Let need[l] be
// the number of positions before P whose hidden state entering layer l must be right for every row from P on to be.
// Nobody reads a row's state after the last layer L but the row itself, so need[L] = 0. A full layer takes from other
// rows their cached K and V only: need[l] = need[l + 1]. In a layer of window w, the rows from P - need[l + 1] on,
// whose output counts, read keys from P - need[l + 1] - (w - 1) on, each of which is a function of its own row's state
// entering l: need[l] = need[l + 1] + w - 1. Hence
//
//   need[l] = sum of w - 1 over the window layers from l on
//
// and no row before P - need[l] has any effect from layer l on. All need[0] rows are needed: one fewer changes results.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/model/model_spec.h"

namespace hysparse {

// need[0 … L], L the number of layers.
std::vector<int64_t> RebuildRows(const ModelSpec& spec);

}  // namespace hysparse
