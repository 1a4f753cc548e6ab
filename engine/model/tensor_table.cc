#include "engine/model/tensor_table.h"

#include <cmath>
#include <unordered_set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace hysparse {

int64_t TensorSpec::elements() const {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

void TensorTable::AddMatrix(const std::string& name, int64_t rows, int64_t cols, float gain) {
  TensorSpec tensor;
  tensor.name = name;
  tensor.shape = {rows, cols};
  tensor.deviation = gain / std::sqrt(static_cast<float>(cols));
  tensors_.push_back(std::move(tensor));
}

void TensorTable::AddVector(const std::string& name, int64_t size, float mean, float deviation) {
  TensorSpec tensor;
  tensor.name = name;
  tensor.shape = {size};
  tensor.mean = mean;
  tensor.deviation = deviation;
  tensors_.push_back(std::move(tensor));
}

void TensorTable::AddMlp(const std::string& prefix, int64_t width, int64_t hidden, bool bias) {
  AddMatrix(prefix + "gate_proj.weight", width, hidden);
  AddMatrix(prefix + "up_proj.weight", width, hidden);
  AddMatrix(prefix + "down_proj.weight", hidden, width);
  if (!bias) return;
  AddVector(prefix + "gate_proj.bias", width, 0.0f, 0.1f);
  AddVector(prefix + "up_proj.bias", width, 0.0f, 0.1f);
  AddVector(prefix + "down_proj.bias", hidden, 0.0f, 0.1f);
}

void TensorTable::AddExperts(const ModelSpec& spec, const std::string& prefix) {
  const MoeSpec& moe = spec.moe;
  AddMatrix(prefix + "gate.weight", moe.experts, spec.hidden, 2.0f);
  if (moe.selection_bias) AddVector(prefix + "gate.e_score_correction_bias", moe.experts, 0.0f, 0.1f);
  for (int32_t e = 0; e < moe.experts; ++e)
    AddMlp(absl::StrCat(prefix, "experts.", e, "."), moe.width, spec.hidden, false);
  if (moe.shared_width > 0) AddMlp(prefix + "shared_experts.", moe.shared_width, spec.hidden, false);
}

void TensorTable::AddAttention(const ModelSpec& spec, const LayerSpec& layer, const std::string& prefix) {
  const int64_t q = int64_t{layer.heads} * layer.qk_dim, k = int64_t{layer.kv_heads} * layer.qk_dim;
  const int64_t v = int64_t{layer.kv_heads} * layer.v_dim, o = int64_t{layer.heads} * layer.v_dim;
  AddMatrix(prefix + "q_proj.weight", q, spec.hidden, 2.0f);
  AddMatrix(prefix + "k_proj.weight", k, spec.hidden, 2.0f);
  AddMatrix(prefix + "v_proj.weight", v, spec.hidden);
  AddMatrix(prefix + "o_proj.weight", spec.hidden, o);
  if (spec.qkv_bias) {
    AddVector(prefix + "q_proj.bias", q, 0.0f, 0.1f);
    AddVector(prefix + "k_proj.bias", k, 0.0f, 0.1f);
    AddVector(prefix + "v_proj.bias", v, 0.0f, 0.1f);
  }
  if (spec.o_bias) AddVector(prefix + "o_proj.bias", spec.hidden, 0.0f, 0.1f);
  if (spec.qk_norm) {
    AddVector(prefix + "q_norm.weight", layer.qk_dim, 1.0f, 0.1f);
    AddVector(prefix + "k_norm.weight", layer.qk_dim, 1.0f, 0.1f);
  }
  if (layer.sink) {
    AddVector(prefix + "attention_sink_bias", layer.heads, 0.0f, 1.0f);
    tensors_.back().aliases = {prefix + "swa_attn_sink", prefix + "sinks"};
  }
  if (layer.sparse_sink) {
    AddVector(prefix + "sparse_attention_sink_bias", layer.heads, 0.0f, 1.0f);
    tensors_.back().aliases = {prefix + "sparse_attn_sink"};
  }
  const int64_t gate = spec.gate_per_head ? layer.heads : o;
  if (layer.gate) AddMatrix(prefix + "gate_proj.weight", gate, spec.hidden);
  if (layer.sparse_gate) AddMatrix(prefix + "sparse_gate_proj.weight", gate, spec.hidden);
}

void TensorTable::AddLayer(const ModelSpec& spec, int32_t index) {
  const LayerSpec& layer = spec.layers[static_cast<size_t>(index)];
  const std::string prefix = absl::StrCat("model.layers.", index, ".");
  AddVector(prefix + "input_layernorm.weight", spec.hidden, 1.0f, 0.1f);
  AddAttention(spec, layer, prefix + "self_attn.");
  AddVector(prefix + "post_attention_layernorm.weight", spec.hidden, 1.0f, 0.1f);
  if (layer.moe) {
    AddExperts(spec, prefix + "mlp.");
  } else {
    AddMlp(prefix + "mlp.", spec.intermediate, spec.hidden, spec.mlp_bias);
  }
}

TensorTable::TensorTable(const ModelSpec& spec) {
  AddMatrix("model.embed_tokens.weight", spec.vocab, spec.hidden, std::sqrt(static_cast<float>(spec.hidden)));
  for (int32_t l = 0; l < static_cast<int32_t>(spec.layers.size()); ++l) AddLayer(spec, l);
  AddVector("model.norm.weight", spec.hidden, 1.0f, 0.1f);
  if (!spec.tie_embeddings) AddMatrix("lm_head.weight", spec.vocab, spec.hidden);
  for (size_t i = 0; i < tensors_.size(); ++i) {
    index_.emplace(tensors_[i].name, i);
    elements_ += tensors_[i].elements();
  }
}

const TensorSpec* TensorTable::Find(const std::string& name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

const Tensor* FindTensor(const Checkpoint& checkpoint, const TensorSpec& spec) {
  const Tensor* tensor = checkpoint.Find(spec.name);
  for (size_t i = 0; tensor == nullptr && i < spec.aliases.size(); ++i) tensor = checkpoint.Find(spec.aliases[i]);
  return tensor;
}

absl::StatusOr<std::vector<std::string>> TensorTable::Check(const Checkpoint& checkpoint) const {
  std::unordered_set<const Tensor*> used;
  for (const TensorSpec& spec : tensors_) {
    const Tensor* tensor = FindTensor(checkpoint, spec);
    if (tensor == nullptr)
      return absl::InvalidArgumentError(absl::StrCat(checkpoint.folder(), ": tensor '", spec.name, "' of shape ",
                                                     ShapeText(spec.shape), " is missing; config.json asks for it"));
    if (tensor->shape != spec.shape)
      return absl::InvalidArgumentError(absl::StrCat(tensor->file, ": tensor '", spec.name, "' has shape ",
                                                     ShapeText(tensor->shape), ", but config.json asks for ",
                                                     ShapeText(spec.shape)));
    if (tensor->dtype != "BF16" && tensor->dtype != "F16" && tensor->dtype != "F32")
      return absl::InvalidArgumentError(absl::StrCat(tensor->file, ": tensor '", spec.name, "' is ", tensor->dtype,
                                                     ", which is not supported; convert it to BF16, F16 or F32"));
    used.insert(tensor);
  }
  std::vector<std::string> unused;
  for (const std::string& name : checkpoint.Names()) {
    const Tensor* tensor = checkpoint.Find(name);
    if (used.count(tensor)) continue;
    // The bias of a projection that the model does use: dropping it would silently change every answer.
    if (absl::EndsWith(name, ".bias") && Find(name.substr(0, name.size() - 4) + "weight") != nullptr)
      return absl::InvalidArgumentError(absl::StrCat(tensor->file, ": tensor '", name, "' of shape ",
                                                     ShapeText(tensor->shape),
                                                     " would be ignored: config.json says that "
                                                     "this projection has no bias; correct config.json"));
    unused.push_back(name);
  }
  return unused;
}

}  // namespace hysparse
