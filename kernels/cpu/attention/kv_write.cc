// KvWrite: a row of K and V for each token and KV head, converted and scattered.
#include <algorithm>
#include <cstdint>

#include "kernels/cpu/attention/attention.h"
#include "kernels/cpu/attention/micro_kernels.h"

namespace hysparse::cpu {
namespace {

// The conversion of the newest level that this process may use; without AVX2 there is no CPU backend.
const MicroKernels& ConversionKernels() {
  static const MicroKernels& kKernels = [&]() -> const MicroKernels& {
    const auto isa = DetectCpuIsa();
    if (!isa.ok()) return PortableKernels(false);
    return *isa == CpuIsa::kAvx2 ? Avx2Kernels(false) : Avx512Kernels(false);
  }();
  return kKernels;
}

}  // namespace

void KvWrite(ThreadPool& pool, const KvWriteParams& p) {
  const MicroKernels& kernels = ConversionKernels();
  const PagedKv& kv = p.kv;
  const bool bf16 = kv.dtype == DType::kBF16;
  const int64_t element = static_cast<int64_t>(SizeOf(kv.dtype));
  constexpr int kTokens = 16;  // at a time
  pool.ParallelFor((p.batch.num_tokens + kTokens - 1) / kTokens, [&](int64_t index, int) {
    const int end = std::min<int>(p.batch.num_tokens, static_cast<int>(index + 1) * kTokens);
    for (int64_t t = index * kTokens; t < end; ++t) {
      const int64_t sequence = p.batch.sequence[t], position = p.batch.position[t];
      if (p.first_position != nullptr && position < p.first_position[sequence]) continue;
      const int64_t page = position / kv.page_tokens, slot = position % kv.page_tokens;
      std::byte* at = kv.base + int64_t{kv.block_table[kv.table_offset(sequence) + page]} * kv.page_stride;
      for (int64_t g = 0; g < kv.kv_heads; ++g) {
        const int64_t row = g * kv.page_tokens + slot;
        kernels.store(p.k + t * p.k_stride + g * kv.qk_dim, 1.0f, kv.qk_dim, at + row * kv.qk_dim * element, bf16);
        kernels.store(p.v + t * p.v_stride + g * kv.v_dim, p.v_scale, kv.v_dim,
                      at + kv.v_offset + row * kv.v_dim * element, bf16);
      }
    }
  });
}

}  // namespace hysparse::cpu
