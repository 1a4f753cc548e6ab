// WeightSource: where Weights gets its tensors from: a checkpoint that has been checked, or a seed. One thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "engine/model/tensor_table.h"
#include "kernels/ops.h"

namespace hysparse {

// A tensor's values, row-major: [rows, cols], or [1, size] for a vector. `owner` keeps `matrix.data` alive.
struct LoadedTensor {
  MatrixSource matrix;
  std::shared_ptr<const void> owner;
};

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  // `spec` is an entry of the model's TensorTable.
  virtual LoadedTensor Get(const TensorSpec& spec) = 0;
};

// Views into a mapped checkpoint that TensorTable::Check accepted and that outlives the source.
class CheckpointSource : public WeightSource {
 public:
  explicit CheckpointSource(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}
  LoadedTensor Get(const TensorSpec& spec) override;

 private:
  const Checkpoint& checkpoint_;
};

// Seeded normal BF16 values of the table's mean and deviation, about 10^9 a second; equal for equal seed and name.
class RandomSource : public WeightSource {
 public:
  explicit RandomSource(uint64_t seed) : seed_(seed) {}
  LoadedTensor Get(const TensorSpec& spec) override;

 private:
  using Buffer = std::shared_ptr<std::vector<uint16_t>>;
  const std::vector<uint16_t>& Quantiles(float mean, float deviation);
  Buffer FreeBuffer(size_t size);

  uint64_t seed_;
  std::vector<Buffer> buffers_;  // used again once their tensor is gone: fresh memory costs more than the numbers
  std::map<std::pair<float, float>, std::vector<uint16_t>> quantiles_;  // [65536] BF16, by (mean, deviation)
};

// n values as fp32.
std::vector<float> ToFloats(const MatrixSource& matrix);

}  // namespace hysparse
