// The attention micro-kernels for AMX: those of AVX512_BF16, the product on tiles of 16 rows by 16 units.
#include "kernels/cpu/attention/bf16_kernels.h"

namespace hysparse::cpu {
namespace {

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

void ConfigureTiles() {
  static constexpr TileConfig kConfig;
  _tile_loadconfig(&kConfig);
}

void ReleaseTiles() { _tile_release(); }

// c[32][32] (+)= a[32][units] · b[2 panels]: tiles 0-3 are c, 4-5 a, 6-7 b.
void Multiply2x2(const float* a, int64_t a_bytes, const float* b, int64_t panel_stride, int units, float* c,
                 int64_t c_bytes, bool accumulate) {
  const float* a1 = a + 4 * a_bytes;  // 16 rows further
  float* c1 = c + 4 * c_bytes;
  if (accumulate) {
    _tile_loadd(0, c, c_bytes);
    _tile_loadd(1, c + kLanes, c_bytes);
    _tile_loadd(2, c1, c_bytes);
    _tile_loadd(3, c1 + kLanes, c_bytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int u = 0; u < units; u += 16) {
    _tile_loadd(4, a + u, a_bytes);
    _tile_loadd(6, b + u * kLanes, 64);
    _tile_loadd(7, b + panel_stride + u * kLanes, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a1 + u, a_bytes);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, c, c_bytes);
  _tile_stored(1, c + kLanes, c_bytes);
  _tile_stored(2, c1, c_bytes);
  _tile_stored(3, c1 + kLanes, c_bytes);
}

// c[16][64] (+)= a[16][units] · b[4 panels]: tiles 0-3 are c, 4 a, 5-7 b.
void Multiply1x4(const float* a, int64_t a_bytes, const float* b, int64_t panel_stride, int units, float* c,
                 int64_t c_bytes, bool accumulate) {
  if (accumulate) {
    _tile_loadd(0, c, c_bytes);
    _tile_loadd(1, c + kLanes, c_bytes);
    _tile_loadd(2, c + 2 * kLanes, c_bytes);
    _tile_loadd(3, c + 3 * kLanes, c_bytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int u = 0; u < units; u += 16) {
    const float* at = b + u * kLanes;
    _tile_loadd(4, a + u, a_bytes);
    _tile_loadd(5, at, 64);
    _tile_loadd(6, at + panel_stride, 64);
    _tile_loadd(7, at + 2 * panel_stride, 64);
    _tile_dpbf16ps(0, 4, 5);
    _tile_dpbf16ps(1, 4, 6);
    _tile_loadd(5, at + 3 * panel_stride, 64);
    _tile_dpbf16ps(2, 4, 7);
    _tile_dpbf16ps(3, 4, 5);
  }
  _tile_stored(0, c, c_bytes);
  _tile_stored(1, c + kLanes, c_bytes);
  _tile_stored(2, c + 2 * kLanes, c_bytes);
  _tile_stored(3, c + 3 * kLanes, c_bytes);
}

void Multiply1x1(const float* a, int64_t a_bytes, const float* b, int units, float* c, int64_t c_bytes,
                 bool accumulate) {
  if (accumulate) {
    _tile_loadd(0, c, c_bytes);
  } else {
    _tile_zero(0);
  }
  for (int u = 0; u < units; u += 16) {
    _tile_loadd(4, a + u, a_bytes);
    _tile_loadd(6, b + u * kLanes, 64);
    _tile_dpbf16ps(0, 4, 6);
  }
  _tile_stored(0, c, c_bytes);
}

void MultiplyAmx(const void* a_units, int64_t a_stride, int rows, const void* b_units, int64_t panel_stride, int panels,
                 int units, float* c, int64_t c_stride, bool accumulate) {
  const float* a = static_cast<const float*>(a_units);
  const float* b = static_cast<const float*>(b_units);
  const int64_t a_bytes = a_stride * 4, c_bytes = c_stride * 4;
  for (; rows > 0; rows -= 32, a += 32 * a_stride, c += 32 * c_stride) {
    int p = 0;
    if (rows > 16) {
      for (; p + 2 <= panels; p += 2) {
        Multiply2x2(a, a_bytes, b + p * panel_stride, panel_stride, units, c + p * kLanes, c_bytes, accumulate);
      }
    } else {
      for (; p + 4 <= panels; p += 4) {
        Multiply1x4(a, a_bytes, b + p * panel_stride, panel_stride, units, c + p * kLanes, c_bytes, accumulate);
      }
    }
    for (; p < panels; ++p) {
      const float* panel = b + p * panel_stride;
      Multiply1x1(a, a_bytes, panel, units, c + p * kLanes, c_bytes, accumulate);
      if (rows > 16) {
        Multiply1x1(a + 16 * a_stride, a_bytes, panel, units, c + 16 * c_stride + p * kLanes, c_bytes, accumulate);
      }
    }
  }
}

constexpr MicroKernels AmxTable() {
  MicroKernels table = Bf16Kernels("AMX-BF16");
  table.begin = ConfigureTiles;
  table.end = ReleaseTiles;
  table.multiply = MultiplyAmx;
  return table;
}

}  // namespace

const MicroKernels& AmxKernels() {
  static constexpr MicroKernels kTable = AmxTable();
  return kTable;
}

}  // namespace hysparse::cpu
