// Element types of tensors, weights and KV pages.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hysparse {

enum class DType : uint8_t { kF32, kBF16, kF16 };

constexpr size_t SizeOf(DType type) { return type == DType::kF32 ? 4 : 2; }

constexpr const char* Name(DType type) {
  return type == DType::kF32 ? "float32" : type == DType::kBF16 ? "bfloat16" : "float16";
}

}  // namespace hysparse
