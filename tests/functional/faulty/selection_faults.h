// Faults in which blocks an oracle chooses. Included by faults.cc alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "tests/functional/faulty/forwarding_backend.h"

namespace hysparse::faulty {

// The part of a choice that belongs to one token and KV group.
struct Choice {
  int32_t position;
  int32_t* ids;
  int32_t* count;
};

template <typename Use>
void ForEachChoice(const DenseAttentionParams& p, Use use) {
  for (int64_t t = 0; t < p.batch.num_tokens; ++t) {
    for (int64_t g = 0; g < p.kv.kv_heads; ++g) {
      const int64_t row = t * p.kv.kv_heads + g;
      use(row, Choice{p.batch.position[t], p.select->ids + row * p.select->top, p.select->counts + row});
    }
  }
}

// Changes the choice of an oracle after the attention of its layer, which stays right.
class WrongSelection : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;

  void DenseAttention(const OpContext& ctx, const DenseAttentionParams& p) final {
    ForwardingBackend::DenseAttention(ctx, p);
    if (p.select != nullptr) Change(ctx, p);
  }

 protected:
  virtual void Change(const OpContext& ctx, const DenseAttentionParams& p) = 0;

  // Attends once more, into a scratch output, and makes the choice `again`.
  void ChooseAgain(const OpContext& ctx, DenseAttentionParams p, const BlockSelection& again, const float* sink) {
    out_.resize(static_cast<size_t>(int64_t{p.batch.num_tokens} * p.heads * p.kv.v_dim));
    p.out = out_.data();
    p.out_dtype = DType::kF32;
    p.sink = sink;
    p.select = &again;
    ForwardingBackend::DenseAttention(ctx, p);
  }

  // The choice of `top` blocks instead of as many as the model says, in memory of its own.
  BlockSelection ChooseOther(const OpContext& ctx, const DenseAttentionParams& p, int32_t top) {
    const auto rows = static_cast<size_t>(int64_t{p.batch.num_tokens} * p.kv.kv_heads);
    ids_.resize(rows * static_cast<size_t>(top));
    counts_.resize(rows);
    const BlockSelection other{p.select->block, top, ids_.data(), counts_.data()};
    ChooseAgain(ctx, p, other, p.sink);
    return other;
  }

 private:
  std::vector<float> out_;
  std::vector<int32_t> ids_, counts_;
};

// Every KV group reads what the next one chose.
class WrongGroup : public WrongSelection {
 public:
  using WrongSelection::WrongSelection;

 private:
  void Change(const OpContext&, const DenseAttentionParams& p) override {
    const int64_t groups = p.kv.kv_heads, top = p.select->top;
    for (int64_t t = 0; t < p.batch.num_tokens; ++t) {
      int32_t *ids = p.select->ids + t * groups * top, *counts = p.select->counts + t * groups;
      std::rotate(ids, ids + top, ids + groups * top);
      std::rotate(counts, counts + 1, counts + groups);
    }
  }
};

// The block before each one that was chosen.
class BlockOffByOne : public WrongSelection {
 public:
  using WrongSelection::WrongSelection;

 private:
  void Change(const OpContext&, const DenseAttentionParams& p) override {
    ForEachChoice(p, [](int64_t, Choice choice) {
      for (int32_t i = 0; i < *choice.count; ++i) choice.ids[i] = std::max(0, choice.ids[i] - 1);
      int32_t* end = std::unique(choice.ids, choice.ids + *choice.count);
      std::fill(end, choice.ids + *choice.count, -1);
      *choice.count = static_cast<int32_t>(end - choice.ids);
    });
  }
};

// Ranked by the maximum over raw logits, each head's lse forgotten. A sink that outweighs every key gives all heads the
// same lse; logits stay far below it, and its ulp far below a difference that matters.
class RawLogits : public WrongSelection {
 public:
  using WrongSelection::WrongSelection;

 private:
  void Change(const OpContext& ctx, const DenseAttentionParams& p) override {
    sink_.assign(static_cast<size_t>(p.heads), 2000.0f);
    ChooseAgain(ctx, p, *p.select, sink_.data());
  }
  std::vector<float> sink_;
};

// One block less than the model's top-k.
class OneBlockFewer : public WrongSelection {
 public:
  using WrongSelection::WrongSelection;

 private:
  void Change(const OpContext& ctx, const DenseAttentionParams& p) override {
    const BlockSelection fewer = ChooseOther(ctx, p, p.select->top - 1);
    ForEachChoice(p, [&](int64_t row, Choice choice) {
      std::copy_n(fewer.ids + row * fewer.top, fewer.top, choice.ids);
      choice.ids[fewer.top] = -1;
      *choice.count = fewer.counts[row];
    });
  }
};

// The block that the token stands in never competes.
class PartialBlock : public WrongSelection {
 public:
  using WrongSelection::WrongSelection;

 private:
  void Change(const OpContext& ctx, const DenseAttentionParams& p) override {
    const BlockSelection more = ChooseOther(ctx, p, p.select->top + 1);
    ForEachChoice(p, [&](int64_t row, Choice choice) {
      const int32_t current = choice.position / p.select->block;
      // Ids ascend and none lies ahead of the token: its own is the last one.
      if (*choice.count == 0 || choice.ids[*choice.count - 1] != current) return;
      const int32_t left = more.counts[row] - 1;
      std::copy_n(more.ids + row * more.top, left, choice.ids);
      std::fill(choice.ids + left, choice.ids + p.select->top, -1);
      *choice.count = left;
    });
  }
};

}  // namespace hysparse::faulty
