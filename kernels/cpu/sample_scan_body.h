// The body of sample_scan.h, compiled once per instruction set by sample_scan_{avx2,avx512}.cc. Vectors are the
// compiler's own, so that there is one source: 16 lanes are one register on AVX-512 and two (kParts) on AVX2. exp is
// 2^n * P(r) with Cody and Waite's reduction and a polynomial of degree 6: about 1 ulp.
#include "kernels/cpu/sample_scan.h"

namespace hysparse::cpu {
namespace {

#ifdef __AVX512F__
constexpr int32_t kWidth = 16;
#else
constexpr int32_t kWidth = 8;
#endif
constexpr int32_t kLanes = 16, kParts = kLanes / kWidth;
constexpr float kInfinity = __builtin_inff();
typedef float Floats __attribute__((vector_size(kWidth * 4)));
typedef int32_t Ints __attribute__((vector_size(kWidth * 4)));

#define HYSPARSE_INLINE inline __attribute__((always_inline))

// Calls step(i, part, count) for the registers of [begin, end), `count` of whose lanes are inside.
template <typename Step>
HYSPARSE_INLINE void ForEachRegister(int32_t begin, int32_t end, Step step) {
  for (int32_t i = begin; i < end; i += kLanes) {
#pragma GCC unroll 2
    for (int32_t part = 0; part < kParts; ++part) step(i + part * kWidth, part, end - i - part * kWidth);
  }
}

// Lanes past `count` read as -inf.
HYSPARSE_INLINE Floats Load(const float* x, int32_t count) {
  Floats out = Floats{} - kInfinity;
  if (count >= kWidth) {
    __builtin_memcpy(&out, x, sizeof out);
  } else if (count > 0) {
    __builtin_memcpy(&out, x, sizeof(float) * static_cast<uint32_t>(count));
  }
  return out;
}

HYSPARSE_INLINE void Store(const Floats& v, int32_t count, float* out) {
  if (count >= kWidth) {
    __builtin_memcpy(out, &v, sizeof v);
  } else if (count > 0) {
    __builtin_memcpy(out, &v, sizeof(float) * static_cast<uint32_t>(count));
  }
}

// exp(z) for z <= 0; 0 below -87, where the result would leave the normal range.
HYSPARSE_INLINE Floats Exp(const Floats& z) {
  const Floats clamped = z > -87.0f ? z : Floats{} - 87.0f;
  const Floats shifted = clamped * 1.44269504088896341f + 12582912.0f;  // 1.5 * 2^23: rounds to an integer
  const Floats n = shifted - 12582912.0f;
  const Floats r = clamped - n * 0.693359375f - n * -2.12194440e-4f;
  Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const Ints exponent = ((Ints)shifted - 0x4B400000 + 127) << 23;
  return z > -87.0f ? p * (Floats)exponent : Floats{};
}

// Of the 16 lanes, in order.
HYSPARSE_INLINE double Total(const Floats (&sum)[kParts]) {
  double total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total += static_cast<double>(sum[lane / kWidth][lane % kWidth]);
  return total;
}

HYSPARSE_INLINE int32_t Min(int32_t a, int32_t b) { return a < b ? a : b; }

bool BlockMax(const float* x, int32_t n, float* maxima) {
  Ints bad[kParts] = {};
  for (int32_t begin = 0; begin < n; begin += kScanBlock) {
    Floats most[kParts];
    for (Floats& part : most) part = Floats{} - kInfinity;
    ForEachRegister(
        begin, Min(n, begin + kScanBlock), [&](int32_t i, int32_t part, int32_t count) __attribute__((always_inline)) {
          const Floats v = Load(x + i, count);
          bad[part] |= ~(v < Floats{} + kInfinity);  // NaN compares false
          most[part] = v > most[part] ? v : most[part];
        });
    float max = -kInfinity;
    for (int lane = 0; lane < kLanes; ++lane) {
      const float value = most[lane / kWidth][lane % kWidth];
      max = value > max ? value : max;
    }
    maxima[begin / kScanBlock] = max;
  }
  int32_t any = 0;
  for (int lane = 0; lane < kLanes; ++lane) any |= bad[lane / kWidth][lane % kWidth];
  return any == 0;
}

void Weights(const float* x, int32_t n, float max, float scale, float floor, float* w, double* sums) {
  for (int32_t begin = 0; begin < n; begin += kScanBlock) {
    Floats sum[kParts] = {};
    ForEachRegister(
        begin, Min(n, begin + kScanBlock), [&](int32_t i, int32_t part, int32_t count) __attribute__((always_inline)) {
          Floats v = Exp((Load(x + i, count) - max) * scale);
          v = v >= floor ? v : Floats{};
          sum[part] += v;
          if (w != nullptr) Store(v, count, w + i);
        });
    sums[begin / kScanBlock] = Total(sum);
  }
}

double Above(const float* x, const float* w, int32_t n, float threshold, int32_t* count_above) {
  Ints counts[kParts] = {};
  double total = 0;
  for (int32_t begin = 0; begin < n; begin += kScanBlock) {
    Floats sum[kParts] = {};
    ForEachRegister(
        begin, Min(n, begin + kScanBlock), [&](int32_t i, int32_t part, int32_t count) __attribute__((always_inline)) {
          const Ints in = Load(x + i, count) >= threshold;  // -1 where true; the lanes past the end never are
          counts[part] -= in;
          sum[part] += in ? (w != nullptr ? Load(w + i, count) : Floats{} + 1.0f) : Floats{};
        });
    total += Total(sum);
  }
  *count_above = 0;
  for (int lane = 0; lane < kLanes; ++lane) *count_above += counts[lane / kWidth][lane % kWidth];
  return total;
}

void Keep(const float* x, int32_t n, float threshold, float floor, float* w, double* sums) {
  for (int32_t begin = 0; begin < n; begin += kScanBlock) {
    Floats sum[kParts] = {};
    ForEachRegister(
        begin, Min(n, begin + kScanBlock), [&](int32_t i, int32_t part, int32_t count) __attribute__((always_inline)) {
          Floats weight = Load(w + i, count);
          weight = (Load(x + i, count) > threshold) & (weight >= floor) ? weight : Floats{};
          sum[part] += weight;
          Store(weight, count, w + i);
        });
    sums[begin / kScanBlock] = Total(sum);
  }
}

}  // namespace
}  // namespace hysparse::cpu
