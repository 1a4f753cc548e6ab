// What a worker does with one row tile and one KV group: the softmax of one split, the fold of a split into the rows'
// state, and the rows' results. These three fix the order of every sum; who calls them, and when, does not matter.
#pragma once

#include "kernels/cpu/attention/job.h"

namespace hysparse::cpu {

// Converts the tile's rows of q into worker.query.
void PackQueries(const Job& job, const RowTile& tile, int group, Worker& worker);

// The softmax over one split, whose masks lie in worker.mask, for every row of the tile. block_max is raised, not set.
void RunSplit(const Job& job, const RowTile& tile, int group, int split, Worker& worker, const RowState& out);

// No keys seen: peak -inf, and block_max -inf if the op selects.
void ClearState(const Job& job, int rows, const RowState& state);
// state = state + split, by log-sum-exp.
void FoldSplit(const Job& job, int rows, const RowState& split, const RowState& state);

// Adds the sinks, writes the op's output rows, and selects blocks if the op does.
void FinishTile(const Job& job, const RowTile& tile, int group, Worker& worker, const RowState& state);

}  // namespace hysparse::cpu
