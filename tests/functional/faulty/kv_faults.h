// Faults in whose K and V are read, and in what the pages hold. Included by faults.cc alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "tests/functional/faulty/forwarding_backend.h"

namespace hysparse::faulty {

// The heads of every KV group read the next group's K and V, in the blocks that were chosen for it.
class WrongKvGroup : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  void SparseAttention(const OpContext& ctx, const SparseAttentionParams& p) override {
    const int64_t tokens = p.batch.num_tokens, heads = p.heads, group = heads / p.kv.kv_heads;
    const int64_t q_row = heads * p.kv.qk_dim, out_row = heads * p.kv.v_dim;
    // Attends with each group's heads in the place of the next one's, then puts the outputs back.
    q_.resize(static_cast<size_t>(tokens * q_row));
    for (int64_t t = 0; t < tokens; ++t) {
      const float* row = p.q + t * p.q_stride;
      std::rotate_copy(row, row + (heads - group) * p.kv.qk_dim, row + q_row, q_.data() + t * q_row);
    }
    SparseAttentionParams wrong = p;
    wrong.q = q_.data();
    wrong.q_stride = q_row;
    if (p.sink != nullptr) {
      sink_.resize(static_cast<size_t>(heads));
      std::rotate_copy(p.sink, p.sink + heads - group, p.sink + heads, sink_.data());
      wrong.sink = sink_.data();
    }
    ForwardingBackend::SparseAttention(ctx, wrong);
    auto* out = static_cast<float*>(p.out);  // the model's sparse branch writes fp32
    for (int64_t t = 0; t < tokens; ++t, out += out_row) std::rotate(out, out + group * p.kv.v_dim, out + out_row);
  }

 private:
  std::vector<float> q_, sink_;
};

// Sparse layers behind the second full layer read the KV of the one before it, in the blocks that theirs chose.
class WrongOracle : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  void Embed(const OpContext& ctx, const EmbedParams& p) override {
    oracles_ = 0;
    ForwardingBackend::Embed(ctx, p);
  }
  void DenseAttention(const OpContext& ctx, const DenseAttentionParams& p) override {
    before_ = std::exchange(last_, p.kv);
    ++oracles_;
    ForwardingBackend::DenseAttention(ctx, p);
  }
  void SparseAttention(const OpContext& ctx, const SparseAttentionParams& p) override {
    SparseAttentionParams wrong = p;
    if (oracles_ > 1) wrong.kv = before_;
    ForwardingBackend::SparseAttention(ctx, wrong);
  }

 private:
  int oracles_ = 0;  // of this step so far
  PagedKv last_, before_;
};

// Every fourth page of a full layer is not written: it keeps what its last user left there, or zeros. Only the global
// class has a whole block table for each sequence.
class StalePage : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  void KvWrite(const OpContext& ctx, const KvWriteParams& p) override {
    if (p.kv.first_page != nullptr) return ForwardingBackend::KvWrite(ctx, p);
    const auto stale = [&](int32_t t) { return p.batch.position[t] / p.kv.page_tokens % 4 == 3; };
    for (int32_t begin = 0, end = 0; begin < p.batch.num_tokens; begin = end) {
      while (end < p.batch.num_tokens && stale(end) == stale(begin)) ++end;
      if (!stale(begin)) WriteRows(ctx, p, begin, end);
    }
  }

 private:
  void WriteRows(const OpContext& ctx, KvWriteParams p, int32_t begin, int32_t end) {
    p.batch.num_tokens = end - begin;
    p.batch.sequence += begin;
    p.batch.position += begin;
    p.k += begin * p.k_stride;
    p.v += begin * p.v_stride;
    ForwardingBackend::KvWrite(ctx, p);
  }
};

// Copies inside the device are lost: a sequence that continues a cached prefix finds other windows than it left.
class LostCopy : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  void Copy(const OpContext& ctx, const CopyParams& p) override {
    if (p.route != CopyRoute::kDeviceToDevice) ForwardingBackend::Copy(ctx, p);
  }
};

}  // namespace hysparse::faulty
