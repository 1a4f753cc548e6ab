// 16 floats in an array: the readable form of what simd_avx2.h and simd_avx512.h do, for any processor.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace hysparse::cpu {
namespace {

struct Simd {
  struct V {
    float lane[16];
  };
  static constexpr int kRows = 1, kPanels = 1;  // register block of `multiply`

  template <class F>
  static V Each(F f) {
    V x;
    for (int i = 0; i < 16; ++i) x.lane[i] = f(i);
    return x;
  }

  static V Zero() { return Set(0.0f); }
  static V Set(float x) {
    return Each([&](int) { return x; });
  }
  static V Load(const float* p) { return LoadPart(p, 16); }
  static V LoadPart(const float* p, int n) {
    return Each([&](int i) { return i < n ? p[i] : 0.0f; });
  }
  static V LoadBf16(const uint16_t* p, int n) {
    return Each([&](int i) { return i < n ? std::bit_cast<float>(uint32_t{p[i]} << 16) : 0.0f; });
  }
  static void Store(float* p, V x) { StorePart(p, x, 16); }
  static void StorePart(float* p, V x, int n) {
    for (int i = 0; i < 16 && i < n; ++i) p[i] = x.lane[i];
  }
  static void StoreBf16(uint16_t* p, V x, int n) {
    for (int i = 0; i < 16 && i < n; ++i) {
      const uint32_t bits = std::bit_cast<uint32_t>(x.lane[i]);
      const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
      p[i] = static_cast<uint16_t>(std::isnan(x.lane[i]) ? 0x7fc0 : rounded);
    }
  }
  static V Add(V a, V b) {
    return Each([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static V Sub(V a, V b) {
    return Each([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  static V Mul(V a, V b) {
    return Each([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  static V Fma(V a, V b, V c) {
    return Each([&](int i) { return a.lane[i] * b.lane[i] + c.lane[i]; });
  }
  static V Max(V a, V b) {
    return Each([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static V Round(V x) {
    return Each([&](int i) { return std::nearbyint(x.lane[i]); });
  }
  // x * 2^n, n integral in [-126, 1]
  static V Scale(V x, V n) {
    return Each([&](int i) { return std::ldexp(x.lane[i], static_cast<int>(n.lane[i])); });
  }
  // Lanes without their bit become `other`.
  static V Select(uint16_t mask, V x, V other) {
    return Each([&](int i) { return (mask >> i) & 1 ? x.lane[i] : other.lane[i]; });
  }
  static float ReduceMax(V x) {
    float best = x.lane[0];
    for (float value : x.lane) best = value > best ? value : best;
    return best;
  }
  static float ReduceAdd(V x) {
    for (int half = 8; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) x.lane[i] += x.lane[i + half];
    }
    return x.lane[0];
  }
  // 16 vectors as the rows of a matrix -> its columns.
  static void Transpose(V (&x)[16]) {
    for (int i = 0; i < 16; ++i) {
      for (int j = 0; j < i; ++j) {
        const float swap = x[i].lane[j];
        x[i].lane[j] = x[j].lane[i];
        x[j].lane[i] = swap;
      }
    }
  }
};

}  // namespace
}  // namespace hysparse::cpu
