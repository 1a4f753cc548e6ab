// TensorTable: every tensor that a model needs, by its checkpoint name, with its shape: derived from the ModelSpec
// alone, so that a checkpoint can be checked whole before any memory is allocated, and random weights made without one.
// Immutable; any thread. Source: the HySparse specification, section 5.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/checkpoint.h"
#include "engine/model/model_spec.h"

namespace hysparse {

struct TensorSpec {
  std::string name;
  std::vector<int64_t> shape;
  // Of random weights: mean and standard deviation that keep activations of order one and attention peaked.
  float mean = 0.0f, deviation = 1.0f;
  std::vector<std::string> aliases;  // other names that checkpoints use

  int64_t elements() const;
};

class TensorTable {
 public:
  explicit TensorTable(const ModelSpec& spec);

  const std::vector<TensorSpec>& tensors() const { return tensors_; }
  const TensorSpec* Find(const std::string& name) const;  // null when the model has no such tensor
  int64_t elements() const { return elements_; }

  // Checks the checkpoint's names, dtypes and shapes against the table. Returns the names of unused tensors, for one
  // warning. InvalidArgument names file, tensor and both shapes; a missing tensor and a bias that the model would
  // silently drop are refused.
  absl::StatusOr<std::vector<std::string>> Check(const Checkpoint& checkpoint) const;

 private:
  void AddLayer(const ModelSpec& spec, int32_t index);
  void AddAttention(const ModelSpec& spec, const LayerSpec& layer, const std::string& prefix);
  void AddMlp(const std::string& prefix, int64_t width, int64_t hidden, bool bias);
  void AddExperts(const ModelSpec& spec, const std::string& prefix);
  void AddMatrix(const std::string& name, int64_t rows, int64_t cols, float gain = 1.0f);
  void AddVector(const std::string& name, int64_t size, float mean, float deviation);

  std::vector<TensorSpec> tensors_;
  std::unordered_map<std::string, size_t> index_;
  int64_t elements_ = 0;
};

// The checkpoint's tensor for `spec`, under its name or an alias; null when missing.
const Tensor* FindTensor(const Checkpoint& checkpoint, const TensorSpec& spec);

}  // namespace hysparse
