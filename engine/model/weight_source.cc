#include "engine/model/weight_source.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace hysparse {
namespace {

MatrixSource Describe(const TensorSpec& spec, DType dtype) {
  MatrixSource matrix;
  matrix.dtype = dtype;
  matrix.rows = spec.shape.size() == 2 ? static_cast<int32_t>(spec.shape[0]) : 1;
  matrix.cols = static_cast<int32_t>(spec.shape.back());
  return matrix;
}

// Round to nearest even; the value is finite.
uint16_t ToBf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

float FromBf16(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

float FromF16(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t exponent = (bits >> 10) & 31, mantissa = bits & 0x3FF;
  if (exponent == 0) {
    const float value = std::ldexp(static_cast<float>(mantissa), -24);
    return sign ? -value : value;
  }
  const uint32_t biased = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | (biased << 23) | (mantissa << 13));
}

// The standard normal's quantile by bisection of its distribution function; used to fill small tables.
double NormalQuantile(double p) {
  double low = -6.0, high = 6.0;
  for (int i = 0; i < 40; ++i) {
    const double middle = 0.5 * (low + high);
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

// The standard normal at (i + 0.5) / 65536.
const std::vector<float>& StandardQuantiles() {
  static const std::vector<float> table = [] {
    std::vector<float> values(65536);
    for (size_t i = 0; i < values.size() / 2; ++i) {
      values[i] = static_cast<float>(NormalQuantile((static_cast<double>(i) + 0.5) / 65536.0));
      values[65535 - i] = -values[i];
    }
    return values;
  }();
  return table;
}

uint64_t HashName(const std::string& name, uint64_t seed) {  // FNV-1a
  uint64_t hash = 1469598103934665603ull ^ seed;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return hash;
}

uint64_t Mix(uint64_t x) {  // SplitMix64's finaliser: a counter in, 64 random bits out
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

}  // namespace

LoadedTensor CheckpointSource::Get(const TensorSpec& spec) {
  const Tensor* tensor = FindTensor(checkpoint_, spec);
  const DType dtype = tensor->dtype == "F32" ? DType::kF32 : tensor->dtype == "F16" ? DType::kF16 : DType::kBF16;
  LoadedTensor loaded{Describe(spec, dtype), nullptr};
  loaded.matrix.data = tensor->bytes.data();
  // The format does not promise alignment: a copy is made where an element would straddle its natural boundary.
  if (reinterpret_cast<uintptr_t>(tensor->bytes.data()) % SizeOf(dtype) != 0) {
    auto copy = std::make_shared<std::vector<std::byte>>(tensor->bytes.begin(), tensor->bytes.end());
    loaded.matrix.data = copy->data();
    loaded.owner = std::move(copy);
  }
  return loaded;
}

const std::vector<uint16_t>& RandomSource::Quantiles(float mean, float deviation) {
  std::vector<uint16_t>& table = quantiles_[{mean, deviation}];
  if (table.empty()) {
    for (const float value : StandardQuantiles()) table.push_back(ToBf16(mean + deviation * value));
  }
  return table;
}

RandomSource::Buffer RandomSource::FreeBuffer(size_t size) {
  Buffer* best = nullptr;  // the largest of the free ones
  for (Buffer& buffer : buffers_) {
    if (buffer.use_count() == 1 && (best == nullptr || buffer->size() > (*best)->size())) best = &buffer;
  }
  if (best == nullptr) best = &buffers_.emplace_back(std::make_shared<std::vector<uint16_t>>());
  if ((*best)->size() < size) (*best)->resize(size);
  return *best;
}

LoadedTensor RandomSource::Get(const TensorSpec& spec) {
  const std::vector<uint16_t>& table = Quantiles(spec.mean, spec.deviation);
  const auto count = static_cast<size_t>(spec.elements());
  const Buffer values = FreeBuffer((count + 3) / 4 * 4);
  uint64_t counter = HashName(spec.name, seed_);
  for (size_t i = 0; i < count; i += 4) {
    const uint64_t bits = Mix(counter += 0x9E3779B97F4A7C15ull);
    for (size_t j = 0; j < 4; ++j) (*values)[i + j] = table[(bits >> (16 * j)) & 0xFFFF];
  }
  LoadedTensor loaded{Describe(spec, DType::kBF16), values};
  loaded.matrix.data = values->data();
  return loaded;
}

std::vector<float> ToFloats(const MatrixSource& matrix) {
  std::vector<float> out(static_cast<size_t>(matrix.rows) * static_cast<size_t>(matrix.cols));
  if (matrix.dtype == DType::kF32) {
    std::memcpy(out.data(), matrix.data, out.size() * sizeof(float));
    return out;
  }
  const auto* bits = static_cast<const uint16_t*>(matrix.data);
  for (size_t i = 0; i < out.size(); ++i) out[i] = matrix.dtype == DType::kBF16 ? FromBf16(bits[i]) : FromF16(bits[i]);
  return out;
}

}  // namespace hysparse
