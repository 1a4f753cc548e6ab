#include "kernels/cpu/attention/key_mask.h"

#include <algorithm>
#include <cstring>

namespace hysparse::cpu {
namespace {

// Keys [begin, end) of the split, both in [0, kSplitKeys].
void AddRange(KeyMask& mask, int begin, int end) {
  for (int j = begin / kLanes; j * kLanes < end; ++j) {
    const int from = std::max(begin - j * kLanes, 0), to = std::min(end - j * kLanes, kLanes);
    mask.lane[j] |= static_cast<uint16_t>(((1u << to) - 1) & ~((1u << from) - 1));
  }
}

void Summarize(KeyMask& mask) {
  mask.vectors = 0;
  mask.any = mask.full = 0;
  for (int t = 0; t < kSplitTiles; ++t) {
    uint32_t vectors = 0;
    bool full = true;
    for (int j = 0; j < kTileVectors; ++j) {
      const uint16_t lane = mask.lane[t * kTileVectors + j];
      vectors |= static_cast<uint32_t>(lane != 0) << j;
      full = full && lane == 0xffff;
    }
    mask.vectors |= vectors << (t * kTileVectors);
    mask.any |= static_cast<uint8_t>((vectors != 0) << t);
    mask.full |= static_cast<uint8_t>(full << t);
  }
}

}  // namespace

SplitWalk::SplitWalk(const Job& job, const RowTile& tile, int group, Worker& worker)
    : job_(job), tile_(tile), group_(group), worker_(worker), tokens_(tile.token_end - tile.token_begin) {
  if (job_.kind == AttentionKind::kSparse) {
    std::fill_n(worker_.cursor, tokens_, 0);
  } else {
    split_ = job_.FirstKey(Position(0)) / kSplitKeys - 1;
    last_ = Position(tokens_ - 1) / kSplitKeys;
  }
}

const int32_t* SplitWalk::Ids(int i) const {
  const int64_t row = int64_t{tile_.token_begin + i} * job_.p->kv.kv_heads + group_;
  return job_.blocks->ids + row * job_.blocks->top;
}

int SplitWalk::Count(int i) const {
  return job_.blocks->counts[int64_t{tile_.token_begin + i} * job_.p->kv.kv_heads + group_];
}

bool SplitWalk::Next() {
  if (job_.kind != AttentionKind::kSparse) return ++split_ <= last_;
  const int64_t block = job_.blocks->block;
  const int64_t from = int64_t{split_ + 1} * kSplitKeys;  // first key not walked yet
  int64_t nearest = INT64_MAX;
  for (int i = 0; i < tokens_; ++i) {
    const int32_t* ids = Ids(i);
    const int count = Count(i);
    int& cursor = worker_.cursor[i];
    while (cursor < count && (ids[cursor] + 1) * block <= from) ++cursor;
    if (cursor < count) nearest = std::min(nearest, std::max(ids[cursor] * block, from));
  }
  if (nearest == INT64_MAX) return false;
  split_ = static_cast<int>(nearest / kSplitKeys);
  return true;
}

void SplitWalk::FillMasks() {
  const int64_t start = int64_t{split_} * kSplitKeys;
  for (int i = 0; i < tokens_; ++i) {
    KeyMask& mask = worker_.mask[i];
    const int64_t end = std::min<int64_t>(Position(i) + 1 - start, kSplitKeys);
    std::memset(mask.lane, 0, sizeof(mask.lane));
    if (job_.kind != AttentionKind::kSparse) {
      const int64_t begin = std::max<int64_t>(job_.FirstKey(Position(i)) - start, 0);
      if (begin < end) AddRange(mask, static_cast<int>(begin), static_cast<int>(end));
    } else {
      const int64_t block = job_.blocks->block;
      const int32_t* ids = Ids(i);
      const int count = Count(i);
      for (int c = worker_.cursor[i]; c < count && ids[c] * block - start < end; ++c) {
        const int64_t begin = std::max<int64_t>(ids[c] * block - start, 0);
        const int64_t stop = std::min((ids[c] + 1) * block - start, end);
        if (begin < stop) AddRange(mask, static_cast<int>(begin), static_cast<int>(stop));
      }
    }
    Summarize(mask);
  }
}

}  // namespace hysparse::cpu
