// The body of sample_scan.h, compiled once per instruction set by sample_scan_{avx2,avx512}.cc. Vectors are the
// compiler's own (16 floats; two registers on AVX2), so that there is one source. exp is 2^n * P(r) with Cody and
// Waite's reduction and a polynomial of degree 6: about 1 ulp.
#include "kernels/cpu/sample_scan.h"

namespace hysparse::cpu {
namespace {

typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
constexpr int32_t kLanes = 16;
constexpr float kInfinity = __builtin_inff();

// Lanes past `count` read as -inf.
inline void Load(const float* x, int32_t count, Floats& out) {
  out = Floats{} - kInfinity;
  if (count >= kLanes) {
    __builtin_memcpy(&out, x, sizeof out);
  } else {
    __builtin_memcpy(&out, x, sizeof(float) * static_cast<uint32_t>(count));
  }
}

// exp(z) for z <= 0; 0 below -87, where the result would leave the normal range.
inline void Exp(const Floats& z, Floats& out) {
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
  out = z > -87.0f ? p * (Floats)exponent : Floats{};
}

inline int32_t Min(int32_t a, int32_t b) { return a < b ? a : b; }

bool BlockMax(const float* x, int32_t n, float* maxima) {
  Ints bad = {};
  for (int32_t begin = 0; begin < n; begin += kScanBlock) {
    const int32_t end = Min(n, begin + kScanBlock);
    Floats most = Floats{} - kInfinity;
    for (int32_t i = begin; i < end; i += kLanes) {
      Floats v;
      Load(x + i, end - i, v);
      bad |= ~(v < Floats{} + kInfinity);  // NaN compares false
      most = v > most ? v : most;
    }
    float max = most[0];
    for (int lane = 1; lane < kLanes; ++lane) max = most[lane] > max ? most[lane] : max;
    maxima[begin / kScanBlock] = max;
  }
  int32_t any = 0;
  for (int lane = 0; lane < kLanes; ++lane) any |= bad[lane];
  return any == 0;
}

void Weights(const float* x, int32_t n, float max, float scale, float floor, float* w, double* sums) {
  for (int32_t begin = 0; begin < n; begin += kScanBlock) {
    const int32_t end = Min(n, begin + kScanBlock);
    Floats sum = {};
    for (int32_t i = begin; i < end; i += kLanes) {
      Floats v;
      Load(x + i, end - i, v);
      Exp((v - max) * scale, v);
      v = v >= floor ? v : Floats{};
      sum += v;
      if (w != nullptr) __builtin_memcpy(w + i, &v, sizeof(float) * static_cast<uint32_t>(Min(kLanes, end - i)));
    }
    double total = 0;
    for (int lane = 0; lane < kLanes; ++lane) total += static_cast<double>(sum[lane]);
    sums[begin / kScanBlock] = total;
  }
}

}  // namespace
}  // namespace hysparse::cpu
