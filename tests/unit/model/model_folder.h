// A model folder in the test's temporary directory: config.json from JSON text, safetensors from named tensors.
#pragma once

#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/model/tensor_table.h"
#include "gtest/gtest.h"

namespace hysparse {

class ModelFolder {
 public:
  ModelFolder() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    path_ = testing::TempDir() + test->test_suite_name() + "." + test->name();
    for (char& c : path_) {
      if (c == '/' && &c > path_.data() + testing::TempDir().size()) c = '_';
    }
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~ModelFolder() { std::filesystem::remove_all(path_); }

  const std::string& path() const { return path_; }
  void Write(const std::string& name, const std::string& bytes) const {
    std::ofstream(path_ + "/" + name, std::ios::binary) << bytes;
  }
  void WriteConfig(const nlohmann::json& config) const { Write("config.json", config.dump()); }

 private:
  std::string path_;
};

// A safetensors file with the given header text and data.
inline std::string SafetensorsBytes(const std::string& header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + std::string(data_bytes, '\0');
}

struct FileTensor {
  std::string name;
  std::vector<int64_t> shape;
  std::string dtype = "BF16";
};

// Zeros of the given names and shapes.
inline std::string SafetensorsFile(const std::vector<FileTensor>& tensors) {
  nlohmann::json header = nlohmann::json::object();
  size_t offset = 0;
  for (const FileTensor& tensor : tensors) {
    size_t bytes = tensor.dtype == "F32" ? 4 : tensor.dtype == "F8_E4M3" ? 1 : 2;
    for (const int64_t size : tensor.shape) bytes *= static_cast<size_t>(size);
    header[tensor.name] = {
        {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  return SafetensorsBytes(header.dump(), offset);
}

// All the tensors that the model needs.
inline std::vector<FileTensor> TensorsOf(const ModelSpec& spec) {
  std::vector<FileTensor> tensors;
  const TensorTable table(spec);
  for (const TensorSpec& tensor : table.tensors()) tensors.push_back({tensor.name, tensor.shape});
  return tensors;
}

// A small HySparse config: layers full, sparse, sparse, full.
inline nlohmann::json TinyConfig() {
  return {{"model_type", "hysparse"},
          {"architectures", {"HySparseForCausalLM"}},
          {"vocab_size", 40},
          {"hidden_size", 32},
          {"intermediate_size", 48},
          {"num_hidden_layers", 4},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 8},
          {"max_position_embeddings", 512},
          {"hybrid_layer_pattern", {0, 2, 2, 0}},
          {"sliding_window", 16},
          {"sparse_block_size", 8},
          {"sparse_topk_tokens", 32}};
}

}  // namespace hysparse
