#include "engine/model/safetensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/result.h"

namespace hysparse {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxHeader = 100'000'000;
constexpr size_t kLengthBytes = 8;

// Reads the header as a stream of JSON events, so that names given twice are seen and nothing nested is ever built.
class HeaderReader : public nlohmann::json_sax<json> {
 public:
  struct Tensor {
    std::string name, dtype;
    std::vector<int64_t> shape;
    std::vector<int64_t> offsets;
    bool has_shape = false;
  };

  std::vector<Tensor> tensors;
  std::string error;

  bool key(string_t& name) override {
    if (depth_ == 1) return StartEntry(name);
    key_ = name;
    return true;
  }
  bool start_object(size_t) override {
    ++depth_;
    return depth_ <= 2 && !in_list_ ? true : Wrong();
  }
  bool end_object() override {
    --depth_;
    return true;
  }
  bool start_array(size_t) override {
    if (depth_ != 2 || in_list_ || metadata_ || (key_ != "shape" && key_ != "data_offsets")) return Wrong();
    in_list_ = true;
    if (key_ == "shape") tensors.back().has_shape = true;
    return true;
  }
  bool end_array() override {
    in_list_ = false;
    return true;
  }
  bool string(string_t& text) override {
    if (depth_ != 2 || in_list_) return Wrong();
    if (metadata_) return true;
    if (key_ != "dtype") return Wrong();
    tensors.back().dtype = text;
    return true;
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (!in_list_ || value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return Wrong();
    (key_ == "shape" ? tensors.back().shape : tensors.back().offsets).push_back(static_cast<int64_t>(value));
    return true;
  }
  bool null() override { return Wrong(); }
  bool boolean(bool) override { return Wrong(); }
  bool number_integer(number_integer_t) override { return Wrong(); }
  bool number_float(number_float_t, const string_t&) override { return Wrong(); }
  bool binary(binary_t&) override { return Wrong(); }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    error = absl::StrCat("the header is not valid JSON at byte ", position);
    return false;
  }

 private:
  bool StartEntry(const std::string& name) {
    if (!names_.insert(name).second) {
      error = absl::StrCat("tensor '", name, "' is given twice");
      return false;
    }
    metadata_ = name == "__metadata__";
    if (!metadata_) tensors.push_back({.name = name, .dtype = {}, .shape = {}, .offsets = {}});
    return true;
  }
  bool Wrong() {
    const std::string where = tensors.empty() ? "the header" : absl::StrCat("tensor '", tensors.back().name, "'");
    error = absl::StrCat(where, ": the header entry is not {dtype, shape, data_offsets}");
    return false;
  }

  std::unordered_set<std::string> names_;
  std::string key_;
  int depth_ = 0;
  bool in_list_ = false, metadata_ = false;
};

// Bits of an element; 0: a dtype this project does not know, whose size is taken from the offsets.
int64_t BitsOf(const std::string& dtype) {
  static constexpr std::pair<const char*, int64_t> kBits[] = {
      {"BOOL", 8}, {"U8", 8},    {"I8", 8},   {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"U16", 16}, {"I16", 16},
      {"F16", 16}, {"BF16", 16}, {"U32", 32}, {"I32", 32},    {"F32", 32},    {"U64", 64},    {"I64", 64}, {"F64", 64},
  };
  for (const auto& [name, bits] : kBits) {
    if (dtype == name) return bits;
  }
  return 0;
}

// The bytes that dtype and shape ask for; -1 when the product overflows, -2 when the dtype is unknown.
int64_t BytesOf(const HeaderReader::Tensor& tensor) {
  const int64_t bits = BitsOf(tensor.dtype);
  if (bits == 0) return -2;
  int64_t bytes = bits / 8;
  for (const int64_t size : tensor.shape) {
    if (__builtin_mul_overflow(bytes, size, &bytes)) return -1;
  }
  return bytes;
}

absl::Status CheckTensor(const HeaderReader::Tensor& tensor, int64_t data_bytes) {
  const std::string shape = absl::StrCat("[", absl::StrJoin(tensor.shape, ", "), "]");
  const auto error = [&](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat("tensor '", tensor.name, "': ", what));
  };
  if (tensor.dtype.empty() || !tensor.has_shape || tensor.offsets.size() != 2)
    return error("the header entry is not {dtype, shape, data_offsets}");
  const int64_t begin = tensor.offsets[0], end = tensor.offsets[1];
  if (begin > end) return error(absl::StrCat("its offsets [", begin, ", ", end, "] run backwards"));
  if (end > data_bytes)
    return error(
        absl::StrCat("its bytes end at ", end, " but the file holds ", data_bytes, " bytes of data: truncated?"));
  const int64_t bytes = BytesOf(tensor);
  if (bytes == -1) return error(absl::StrCat("shape ", shape, " overflows"));
  if (bytes >= 0 && bytes != end - begin)
    return error(absl::StrCat(tensor.dtype, " of shape ", shape, " takes ", bytes, " bytes, but its offsets span ",
                              end - begin));
  return absl::OkStatus();
}

// Tensors must tile the data: each begins where the one before it ends.
absl::Status CheckCoverage(std::vector<const HeaderReader::Tensor*> tensors, int64_t data_bytes) {
  std::sort(tensors.begin(), tensors.end(), [](const auto* a, const auto* b) { return a->offsets < b->offsets; });
  int64_t end = 0;
  for (const auto* tensor : tensors) {
    if (tensor->offsets[0] != end) {
      return absl::InvalidArgumentError(absl::StrCat("tensor '", tensor->name, "' begins at ", tensor->offsets[0], ", ",
                                                     tensor->offsets[0] < end ? "inside another tensor" : "after a gap",
                                                     " (the one before ends at ", end, ")"));
    }
    end = tensor->offsets[1];
  }
  if (end != data_bytes)
    return absl::InvalidArgumentError(absl::StrCat(data_bytes - end, " bytes follow the last tensor"));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<SafetensorsEntry>> ParseSafetensors(std::span<const std::byte> file,
                                                               const std::string& path) {
  const auto error = [&](absl::string_view what) { return absl::InvalidArgumentError(absl::StrCat(path, ": ", what)); };
  if (file.size() < kLengthBytes) return error("too short to be a safetensors file");
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.data(), kLengthBytes);
  if (header_bytes > kMaxHeader || header_bytes > file.size() - kLengthBytes)
    return error(absl::StrCat("the header's length, ", header_bytes, ", is more than ",
                              std::min<uint64_t>(kMaxHeader, file.size() - kLengthBytes),
                              ": truncated or no safetensors"));

  const auto* text = reinterpret_cast<const char*>(file.data()) + kLengthBytes;
  const std::span<const std::byte> data = file.subspan(kLengthBytes + header_bytes);
  HeaderReader reader;
  try {
    if (!json::sax_parse(text, text + header_bytes, &reader)) return error(reader.error);
  } catch (const std::exception& exception) {
    return error(absl::StrCat("the header is not valid JSON: ", exception.what()));
  }

  const int64_t data_bytes = static_cast<int64_t>(data.size());
  std::vector<const HeaderReader::Tensor*> tensors;
  std::vector<SafetensorsEntry> entries;
  for (HeaderReader::Tensor& tensor : reader.tensors) {
    if (absl::Status status = CheckTensor(tensor, data_bytes); !status.ok()) return error(status.message());
    tensors.push_back(&tensor);
    const auto begin = static_cast<size_t>(tensor.offsets[0]), end = static_cast<size_t>(tensor.offsets[1]);
    entries.push_back({tensor.name, tensor.dtype, tensor.shape, data.subspan(begin, end - begin)});
  }
  if (absl::Status status = CheckCoverage(std::move(tensors), data_bytes); !status.ok()) return error(status.message());
  return entries;
}

}  // namespace hysparse
