#include "kernels/cpu/attention/tile_packer.h"

#include <algorithm>
#include <bit>

namespace hysparse::cpu {
namespace {

// The bits above bit t.
uint32_t Above(uint32_t tiles, int t) { return tiles >> t >> 1 << t << 1; }

}  // namespace

TilePacker::TilePacker(const Job& job, const RowTile& tile, int group, int64_t split_start, Worker& worker, bool keep)
    : job_(job),
      kv_(job.p->kv),
      group_(group),
      table_offset_(job.p->kv.table_offset(tile.sequence)),
      start_(split_start),
      worker_(worker),
      keep_(keep) {
  const int32_t* position = job.p->batch.position;
  begin_ = job.FirstKey(tile.sequence, position[tile.token_begin]);
  end_ = int64_t{position[tile.token_end - 1]} + 1;
}

const std::byte* TilePacker::Keys(int tile, uint32_t tiles) {
  std::byte* to = worker_.keys + int64_t{Slot(tile)} * kTileKeys * job_.units * 4;
  if (keep_ && (packed_keys_ >> tile & 1)) return to;
  packed_keys_ |= 1u << tile;
  FillRows(tile, 0, kv_.qk_dim, worker_.rows);
  const uint32_t after = Above(tiles, tile);
  if (after != 0) {
    FillRows(std::countr_zero(after), 0, kv_.qk_dim, worker_.next);
  } else {
    FillRows(std::countr_zero(tiles), kv_.v_offset, kv_.v_dim, worker_.next);  // the values come next
  }
  job_.kernels->pack_keys(worker_.rows, worker_.next, kv_.qk_dim, job_.units, to);
  return to;
}

const std::byte* TilePacker::Values(int tile, uint32_t tiles) {
  std::byte* to = worker_.values + int64_t{Slot(tile)} * job_.UnitsOfKeys(kTileKeys) * kLanes * 4;
  if (keep_ && (packed_values_ >> tile & 1)) return to;
  packed_values_ |= 1u << tile;
  FillRows(tile, kv_.v_offset, kv_.v_dim, worker_.rows);
  const uint32_t after = Above(tiles, tile);
  FillRows(after != 0 ? std::countr_zero(after) : tile, kv_.v_offset, kv_.v_dim, worker_.next);
  job_.kernels->pack_values(worker_.rows, worker_.next, kv_.v_dim, to);
  return to;
}

void TilePacker::FillRows(int tile, int64_t offset, int dim, const void** rows) const {
  const int64_t tile_start = start_ + tile * kTileKeys;
  const int64_t begin = std::max(begin_, tile_start), end = std::min(end_, tile_start + kTileKeys);
  const int64_t row_bytes = static_cast<int64_t>(dim) * static_cast<int64_t>(SizeOf(kv_.dtype));
  std::fill_n(rows, begin - tile_start, worker_.zeros);
  for (int64_t key = begin; key < end;) {
    const int64_t page = key / kv_.page_tokens, slot = key % kv_.page_tokens;
    const std::byte* at = kv_.base + int64_t{kv_.block_table[table_offset_ + page]} * kv_.page_stride + offset +
                          (int64_t{group_} * kv_.page_tokens + slot) * row_bytes;
    const int64_t stop = std::min(end, (page + 1) * kv_.page_tokens);
    for (; key < stop; ++key, at += row_bytes) rows[key - tile_start] = at;
  }
  std::fill_n(rows + (end - tile_start), tile_start + kTileKeys - end, worker_.zeros);
}

}  // namespace hysparse::cpu
