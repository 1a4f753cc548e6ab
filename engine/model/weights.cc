#include "engine/model/weights.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/result.h"
#include "engine/model/tensor_table.h"
#include "engine/model/weight_source.h"

namespace hysparse {
namespace {

class Loader {
 public:
  Loader(const ModelSpec& spec, const TensorTable& table, WeightSource& source, Backend& backend,
         const LoadProgress& progress)
      : spec_(spec), table_(table), source_(source), backend_(backend), progress_(progress) {}

  absl::StatusOr<Weights> Load() {
    Weights weights;
    weights.parameters = table_.elements();
    HYSPARSE_RETURN_IF_ERROR(LoadEmbedding(weights));
    for (size_t l = 0; l < spec_.layers.size(); ++l) {
      const std::string prefix = absl::StrCat("model.layers.", l, ".");
      HYSPARSE_ASSIGN_OR_RETURN(LayerWeights layer, LoadLayer(spec_.layers[l], prefix));
      weights.layers.push_back(std::move(layer));
    }
    HYSPARSE_ASSIGN_OR_RETURN(weights.final_norm, Vector("model.norm.weight"));
    const char* head = spec_.tie_embeddings ? "model.embed_tokens.weight" : "lm_head.weight";
    HYSPARSE_ASSIGN_OR_RETURN(weights.lm_head, Matrix({head}));
    if (progress_) progress_(1.0);
    return weights;
  }

 private:
  absl::StatusOr<LoadedTensor> Get(const std::string& name) {
    const TensorSpec* spec = table_.Find(name);
    if (spec == nullptr) return absl::InternalError(absl::StrCat("tensor '", name, "' is not in the model's table"));
    done_ += spec->elements();
    if (progress_) progress_(std::min(1.0, static_cast<double>(done_) / static_cast<double>(table_.elements())));
    return source_.Get(*spec);
  }

  // Packs the named matrices, one under the other.
  absl::StatusOr<std::unique_ptr<PackedMatrix>> Matrix(const std::vector<std::string>& names) {
    std::vector<LoadedTensor> tensors;  // keeps made-up values alive while they are packed
    std::vector<MatrixSource> sources;
    for (const std::string& name : names) {
      HYSPARSE_ASSIGN_OR_RETURN(LoadedTensor tensor, Get(name));
      sources.push_back(tensor.matrix);
      tensors.push_back(std::move(tensor));
    }
    return backend_.Pack(sources);
  }

  absl::StatusOr<DeviceFloats> ToDevice(const std::vector<float>& values) {
    HYSPARSE_ASSIGN_OR_RETURN(std::shared_ptr<std::byte> memory, backend_.Allocate(values.size() * sizeof(float)));
    backend_.Upload(memory.get(), values.data(), values.size() * sizeof(float));
    return DeviceFloats(memory, reinterpret_cast<const float*>(memory.get()));
  }

  absl::StatusOr<DeviceFloats> Vector(const std::string& name) {
    HYSPARSE_ASSIGN_OR_RETURN(const LoadedTensor tensor, Get(name));
    return ToDevice(ToFloats(tensor.matrix));
  }

  // The named vector, or null when the model has none.
  absl::StatusOr<DeviceFloats> OptionalVector(const std::string& name) {
    if (table_.Find(name) == nullptr) return DeviceFloats();
    return Vector(name);
  }

  // The biases of the named projections one after another, zeros up to `rows`; null when the first has none.
  absl::StatusOr<DeviceFloats> Biases(const std::vector<std::string>& names, int32_t rows) {
    if (table_.Find(names[0]) == nullptr) return DeviceFloats();
    std::vector<float> all;
    for (const std::string& name : names) {
      HYSPARSE_ASSIGN_OR_RETURN(const LoadedTensor tensor, Get(name));
      const std::vector<float> values = ToFloats(tensor.matrix);
      all.insert(all.end(), values.begin(), values.end());
    }
    all.resize(static_cast<size_t>(rows), 0.0f);
    return ToDevice(all);
  }

  absl::StatusOr<DeviceFloats> InvFreq(const std::vector<float>& inv_freq) {
    DeviceFloats& shared = inv_freq_[inv_freq];
    if (shared == nullptr && !inv_freq.empty()) {
      HYSPARSE_ASSIGN_OR_RETURN(shared, ToDevice(inv_freq));
    }
    return shared;
  }

  absl::Status LoadEmbedding(Weights& weights) {
    HYSPARSE_ASSIGN_OR_RETURN(const LoadedTensor tensor, Get("model.embed_tokens.weight"));
    const MatrixSource& matrix = tensor.matrix;
    const size_t bytes = static_cast<size_t>(matrix.rows) * static_cast<size_t>(matrix.cols) * SizeOf(matrix.dtype);
    HYSPARSE_ASSIGN_OR_RETURN(std::shared_ptr<std::byte> memory, backend_.Allocate(bytes));
    backend_.Upload(memory.get(), matrix.data, bytes);
    weights.embedding = std::move(memory);
    weights.embedding_dtype = matrix.dtype;
    return absl::OkStatus();
  }

  absl::Status LoadAttention(const LayerSpec& layer, const std::string& prefix, LayerWeights& out) {
    std::vector<std::string> fused = {prefix + "q_proj.weight", prefix + "k_proj.weight", prefix + "v_proj.weight"};
    if (layer.gate) fused.push_back(prefix + "gate_proj.weight");
    if (layer.sparse_gate) fused.push_back(prefix + "sparse_gate_proj.weight");
    HYSPARSE_ASSIGN_OR_RETURN(out.qkv, Matrix(fused));
    HYSPARSE_ASSIGN_OR_RETURN(
        out.qkv_bias,
        Biases({prefix + "q_proj.bias", prefix + "k_proj.bias", prefix + "v_proj.bias"}, out.qkv->rows()));
    HYSPARSE_ASSIGN_OR_RETURN(out.q_norm, OptionalVector(prefix + "q_norm.weight"));
    HYSPARSE_ASSIGN_OR_RETURN(out.k_norm, OptionalVector(prefix + "k_norm.weight"));
    HYSPARSE_ASSIGN_OR_RETURN(out.inv_freq, InvFreq(layer.rope.inv_freq));
    HYSPARSE_ASSIGN_OR_RETURN(out.sink, OptionalVector(prefix + "attention_sink_bias"));
    HYSPARSE_ASSIGN_OR_RETURN(out.sparse_sink, OptionalVector(prefix + "sparse_attention_sink_bias"));
    HYSPARSE_ASSIGN_OR_RETURN(out.o, Matrix({prefix + "o_proj.weight"}));
    HYSPARSE_ASSIGN_OR_RETURN(out.o_bias, OptionalVector(prefix + "o_proj.bias"));
    return absl::OkStatus();
  }

  absl::Status LoadMlp(const std::string& prefix, LayerWeights& out) {
    HYSPARSE_ASSIGN_OR_RETURN(out.gate, Matrix({prefix + "gate_proj.weight"}));
    HYSPARSE_ASSIGN_OR_RETURN(out.gate_bias, OptionalVector(prefix + "gate_proj.bias"));
    HYSPARSE_ASSIGN_OR_RETURN(out.up, Matrix({prefix + "up_proj.weight"}));
    HYSPARSE_ASSIGN_OR_RETURN(out.up_bias, OptionalVector(prefix + "up_proj.bias"));
    HYSPARSE_ASSIGN_OR_RETURN(out.down, Matrix({prefix + "down_proj.weight"}));
    HYSPARSE_ASSIGN_OR_RETURN(out.down_bias, OptionalVector(prefix + "down_proj.bias"));
    return absl::OkStatus();
  }

  absl::Status LoadExperts(const std::string& prefix, LayerWeights& out) {
    HYSPARSE_ASSIGN_OR_RETURN(out.router, Vector(prefix + "gate.weight"));
    HYSPARSE_ASSIGN_OR_RETURN(out.router_bias, OptionalVector(prefix + "gate.e_score_correction_bias"));
    for (int32_t e = 0; e < spec_.moe.experts; ++e) {
      const std::string expert = absl::StrCat(prefix, "experts.", e, ".");
      HYSPARSE_ASSIGN_OR_RETURN(auto gate, Matrix({expert + "gate_proj.weight"}));
      HYSPARSE_ASSIGN_OR_RETURN(auto up, Matrix({expert + "up_proj.weight"}));
      HYSPARSE_ASSIGN_OR_RETURN(auto down, Matrix({expert + "down_proj.weight"}));
      out.expert_gate.push_back(gate.get());
      out.expert_up.push_back(up.get());
      out.expert_down.push_back(down.get());
      out.experts.push_back(std::move(gate));
      out.experts.push_back(std::move(up));
      out.experts.push_back(std::move(down));
    }
    return spec_.moe.shared_width > 0 ? LoadMlp(prefix + "shared_experts.", out) : absl::OkStatus();
  }

  absl::StatusOr<LayerWeights> LoadLayer(const LayerSpec& layer, const std::string& prefix) {
    LayerWeights out;
    HYSPARSE_ASSIGN_OR_RETURN(out.input_norm, Vector(prefix + "input_layernorm.weight"));
    HYSPARSE_RETURN_IF_ERROR(LoadAttention(layer, prefix + "self_attn.", out));
    HYSPARSE_ASSIGN_OR_RETURN(out.post_norm, Vector(prefix + "post_attention_layernorm.weight"));
    HYSPARSE_RETURN_IF_ERROR(layer.moe ? LoadExperts(prefix + "mlp.", out) : LoadMlp(prefix + "mlp.", out));
    return out;
  }

  const ModelSpec& spec_;
  const TensorTable& table_;
  WeightSource& source_;
  Backend& backend_;
  const LoadProgress& progress_;
  int64_t done_ = 0;
  std::map<std::vector<float>, DeviceFloats> inv_freq_;
};

}  // namespace

absl::StatusOr<Weights> LoadWeights(const ModelSpec& spec, const Checkpoint& checkpoint, Backend& backend,
                                    const LoadProgress& progress) {
  const TensorTable table(spec);
  HYSPARSE_ASSIGN_OR_RETURN(std::vector<std::string> unused, table.Check(checkpoint));
  CheckpointSource source(checkpoint);
  HYSPARSE_ASSIGN_OR_RETURN(Weights weights, Loader(spec, table, source, backend, progress).Load());
  weights.unused = std::move(unused);
  return weights;
}

absl::StatusOr<Weights> MakeRandomWeights(const ModelSpec& spec, uint64_t seed, Backend& backend,
                                          const LoadProgress& progress) {
  const TensorTable table(spec);
  RandomSource source(seed);
  return Loader(spec, table, source, backend, progress).Load();
}

}  // namespace hysparse
