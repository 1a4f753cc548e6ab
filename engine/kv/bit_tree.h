// BitTree: a set of small integers whose lowest member is found in O(1): bits in words of 64, and above each level a
// word that says which words below are not empty. Not thread-safe.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace hysparse {

class BitTree {
 public:
  // Holds integers in [0, size).
  explicit BitTree(int64_t size = 0) {
    do {
      size = (size + 63) / 64;
      levels_.emplace_back(static_cast<size_t>(size), uint64_t{0});
    } while (size > 1);
  }

  void Set(int32_t i) {
    auto at = static_cast<uint32_t>(i);
    for (auto& level : levels_) {
      level[at / 64] |= uint64_t{1} << at % 64;
      at /= 64;
    }
  }
  void Clear(int32_t i) {
    auto at = static_cast<uint32_t>(i);
    for (auto& level : levels_) {
      if ((level[at / 64] &= ~(uint64_t{1} << at % 64)) != 0) return;
      at /= 64;
    }
  }
  // -1 when empty.
  int32_t First() const {
    if (levels_.back().empty() || levels_.back()[0] == 0) return -1;
    uint32_t at = 0;
    for (size_t level = levels_.size(); level-- > 0;) {
      at = at * 64 + static_cast<uint32_t>(std::countr_zero(levels_[level][at]));
    }
    return static_cast<int32_t>(at);
  }

 private:
  std::vector<std::vector<uint64_t>> levels_;  // [0]: the members
};

}  // namespace hysparse
