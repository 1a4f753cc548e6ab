#include "kernels/cpu/attention/key_mask.h"

#include <algorithm>
#include <cstring>

namespace hysparse::cpu {
namespace {

// Bits [begin, end).
uint32_t Bits(int begin, int end) {
  return static_cast<uint32_t>(((uint64_t{1} << end) - 1) & ~((uint64_t{1} << begin) - 1));
}

// Adds the keys [begin, end) of the split, an interval that is not empty.
void AddRange(KeyMask& mask, int begin, int end) {
  const int first = begin / kLanes, last = (end - 1) / kLanes;
  uint16_t head = static_cast<uint16_t>(Bits(begin % kLanes, kLanes));
  const uint16_t tail = static_cast<uint16_t>(Bits(0, end - last * kLanes));
  if (first == last) {
    head &= tail;
  } else {
    std::fill(mask.lane + first + 1, mask.lane + last, uint16_t{0xffff});
    mask.lane[last] |= tail;
  }
  mask.lane[first] |= head;
  mask.vectors |= Bits(first, last + 1);
  mask.any |= static_cast<uint8_t>(Bits(begin / kTileKeys, (end - 1) / kTileKeys + 1));
}

void FindFullTiles(KeyMask& mask) {
  mask.full = 0;
  for (int t = 0; t < kSplitTiles; ++t) {
    uint64_t lanes;
    std::memcpy(&lanes, mask.lane + t * kTileVectors, sizeof(lanes));
    mask.full |= static_cast<uint8_t>((~lanes == 0) << t);
  }
}

}  // namespace

SplitWalk::SplitWalk(const Job& job, const RowTile& tile, int group, Worker& worker)
    : job_(job), tile_(tile), group_(group), worker_(worker), tokens_(tile.token_end - tile.token_begin) {
  if (job_.kind == AttentionKind::kSparse) {
    std::fill_n(worker_.cursor, tokens_, 0);
  } else {
    split_ = job_.FirstKey(tile_.sequence, Position(0)) / kSplitKeys - 1;
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
    mask = {};
    if (job_.kind != AttentionKind::kSparse) {
      const int64_t begin = std::max<int64_t>(job_.FirstKey(tile_.sequence, Position(i)) - start, 0);
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
    FindFullTiles(mask);
  }
}

}  // namespace hysparse::cpu
