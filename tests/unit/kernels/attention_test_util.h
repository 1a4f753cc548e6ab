// A paged cache, ragged steps and a float64 reference for the attention tests. Single thread. Pages start as NaN and
// become NaN again when they are given back, and page ids are in random order, so that whatever an op reads without
// need shows in its result.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/attention/attention.h"
#include "kernels/cpu/attention/micro_kernels.h"
#include "kernels/cpu/attention/run_attention.h"

namespace hysparse::cpu {

// One implementation: an instruction set, or the portable kernels (nullopt).
using Level = std::optional<CpuIsa>;

inline std::vector<Level> AllLevels() {
  std::vector<Level> levels;
  for (CpuIsa isa : AvailableIsas()) levels.emplace_back(isa);
  return levels;
}

inline std::string LevelName(const Level& level) {
  if (!level.has_value()) return "Portable";
  std::string name;
  for (char c : std::string(Name(*level))) {
    if (std::isalnum(static_cast<unsigned char>(c))) name += c;
  }
  return name;
}

struct Shape {
  int heads = 4, groups = 2, qk_dim = 16, v_dim = 16;
  int page = 64;         // tokens of a page of the global class
  int window_page = 16;  // and of the window class
  int block = 64, top = 4, window = 128;
  bool sink = true;
  DType dtype = DType::kF32;

  int group() const { return heads / groups; }
};

inline float RoundTo(DType dtype, float x) {
  if (dtype == DType::kF32) return x;
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  return std::bit_cast<float>((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000u);
}

// The inputs of one sequence, for all its positions.
struct Inputs {
  Inputs(const Shape& shape, int length, uint32_t seed) : length(length) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    auto fill = [&](std::vector<float>& x, int width, float scale) {
      x.resize(static_cast<size_t>(length) * width);
      for (float& value : x) value = scale * normal(random);
    };
    fill(q, shape.heads * shape.qk_dim, 2.0f);
    fill(k, shape.groups * shape.qk_dim, 2.0f);
    fill(v, shape.groups * shape.v_dim, 1.0f);
  }
  int length;
  std::vector<float> q, k, v;
};

// What the ops gave for one sequence, by position.
struct Outputs {
  std::vector<float> dense, window, sparse;  // [length, heads, v_dim]
  std::vector<int32_t> ids, counts;          // [length, groups, top], [length, groups]
  bool operator==(const Outputs& other) const {
    auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
      return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
    };
    return same(dense, other.dense) && same(window, other.window) && same(sparse, other.sparse) && ids == other.ids &&
           counts == other.counts;
  }
};

// One class of pages for some sequences. Window classes give back the pages that no later token sees.
class Cache {
 public:
  Cache(const Shape& shape, int page_tokens, const std::vector<int>& lengths, uint32_t seed) : page_(page_tokens) {
    element_ = static_cast<int64_t>(SizeOf(shape.dtype));
    int pages = 3;
    for (int length : lengths) pages += length / page_ + 2;
    kv_.v_offset = shape.groups * page_ * shape.qk_dim * element_;
    // Room between the pages, as other layers would take it.
    kv_.page_stride = kv_.v_offset + shape.groups * page_ * shape.v_dim * element_ + 64;
    kv_.page_tokens = page_;
    kv_.kv_heads = shape.groups;
    kv_.qk_dim = shape.qk_dim;
    kv_.v_dim = shape.v_dim;
    kv_.dtype = shape.dtype;
    memory_.assign(static_cast<size_t>(pages * kv_.page_stride), std::byte{0xff});
    kv_.base = memory_.data();
    free_.resize(static_cast<size_t>(pages));
    std::iota(free_.begin(), free_.end(), 0);
    std::shuffle(free_.begin(), free_.end(), std::mt19937(seed));
    held_.resize(lengths.size());
  }

  // Room for the positions [.., end) of a sequence, when those below `begin` are not needed any more.
  void Hold(int sequence, int begin, int end) {
    std::map<int, int32_t>& held = held_[static_cast<size_t>(sequence)];
    while (!held.empty() && held.begin()->first < begin / page_) {
      std::fill_n(memory_.data() + held.begin()->second * kv_.page_stride, kv_.page_stride, std::byte{0xff});
      free_.insert(free_.begin(), held.begin()->second);
      held.erase(held.begin());
    }
    for (int page = begin / page_; page * page_ < end; ++page) {
      if (held.contains(page)) continue;
      held[page] = free_.back();
      free_.pop_back();
    }
  }

  // The view for a step of these sequences.
  PagedKv View(const std::vector<int>& sequences) {
    kv_.table_stride = 1;
    for (int s : sequences) kv_.table_stride = std::max<int>(kv_.table_stride, static_cast<int>(Held(s).size()));
    table_.assign(sequences.size() * static_cast<size_t>(kv_.table_stride), -1);
    row_.clear();
    first_.clear();
    for (size_t i = 0; i < sequences.size(); ++i) {
      const auto& held = Held(sequences[i]);
      row_.push_back(static_cast<int32_t>(sequences.size() - 1 - i));
      first_.push_back(held.begin()->first);
      size_t column = static_cast<size_t>(row_.back() * kv_.table_stride);
      for (const auto& [page, id] : held) table_[column++] = id;
    }
    kv_.block_table = table_.data();
    kv_.table_row = row_.data();
    kv_.first_page = first_.data();
    return kv_;
  }

  const std::vector<std::byte>& memory() const { return memory_; }

 private:
  const std::map<int, int32_t>& Held(int sequence) const { return held_[static_cast<size_t>(sequence)]; }

  int page_;
  int64_t element_;
  PagedKv kv_;
  std::vector<std::byte> memory_;
  std::vector<int32_t> free_, table_, row_, first_;
  std::vector<std::map<int, int32_t>> held_;  // [sequence] logical page -> id
};

// `count` more tokens of a sequence.
struct Chunk {
  int sequence, count;
};

// Runs whole prompts through KvWrite and the three ops, step by step.
class Runner {
 public:
  Runner(Level level, int threads, const Shape& shape) : level_(level), pool_(threads), shape_(shape) {
    std::mt19937 random(99);
    std::normal_distribution<float> normal;
    for (int h = 0; h < shape.heads; ++h) sink_.push_back(normal(random));
  }

  std::vector<Outputs> Run(const std::vector<Inputs>& inputs, const std::vector<std::vector<Chunk>>& steps) {
    std::vector<int> lengths;
    std::vector<Outputs> outputs(inputs.size());
    for (size_t s = 0; s < inputs.size(); ++s) {
      lengths.push_back(inputs[s].length);
      const size_t n = static_cast<size_t>(inputs[s].length);
      Outputs& out = outputs[s];
      for (auto* o : {&out.dense, &out.window, &out.sparse}) {
        o->assign(n * static_cast<size_t>(shape_.heads * shape_.v_dim), -1.0f);
      }
      out.ids.assign(n * static_cast<size_t>(shape_.groups * shape_.top), -7);
      out.counts.assign(n * static_cast<size_t>(shape_.groups), -7);
    }
    Cache global(shape_, shape_.page, lengths, 1), window(shape_, shape_.window_page, lengths, 2);
    std::vector<int> done = begin_.empty() ? std::vector<int>(inputs.size(), 0) : begin_;
    for (const std::vector<Chunk>& step : steps) RunStep(inputs, step, done, global, window, outputs);
    return outputs;
  }

  const std::vector<float>& sink() const { return sink_; }

  // Sequences begin at these positions, before which the window class holds nothing. Only window attention runs.
  void BeginAt(std::vector<int> positions) { begin_ = std::move(positions); }

 private:
  void RunStep(const std::vector<Inputs>& inputs, const std::vector<Chunk>& step, std::vector<int>& done, Cache& global,
               Cache& window, std::vector<Outputs>& outputs) {
    std::vector<int32_t> start = {0}, sequence, position, first_key;
    std::vector<int> ids;
    std::vector<float> q, k, v;
    auto append = [](std::vector<float>& to, const std::vector<float>& from, int at, int width) {
      to.insert(to.end(), from.begin() + int64_t{at} * width, from.begin() + int64_t{at + 1} * width);
      to.push_back(std::numeric_limits<float>::quiet_NaN());  // rows lie one element apart
    };
    int longest = 0;
    for (const Chunk& chunk : step) {
      int& at = done[static_cast<size_t>(chunk.sequence)];
      const Inputs& in = inputs[static_cast<size_t>(chunk.sequence)];
      global.Hold(chunk.sequence, 0, at + chunk.count);
      const int begin = begin_.empty() ? 0 : begin_[static_cast<size_t>(chunk.sequence)];
      first_key.push_back(begin);
      window.Hold(chunk.sequence, std::max(begin, at - shape_.window + 1), at + chunk.count);
      for (int i = 0; i < chunk.count; ++i, ++at) {
        sequence.push_back(static_cast<int32_t>(ids.size()));
        position.push_back(at);
        append(q, in.q, at, shape_.heads * shape_.qk_dim);
        append(k, in.k, at, shape_.groups * shape_.qk_dim);
        append(v, in.v, at, shape_.groups * shape_.v_dim);
      }
      longest = std::max(longest, at);
      ids.push_back(chunk.sequence);
      start.push_back(static_cast<int32_t>(position.size()));
    }
    RaggedBatch batch;
    batch.num_tokens = static_cast<int32_t>(position.size());
    batch.num_sequences = static_cast<int32_t>(ids.size());
    batch.query_start = start.data();
    batch.sequence = sequence.data();
    batch.position = position.data();
    StepLimits limits;
    limits.max_tokens = batch.num_tokens;
    limits.max_context = longest;
    limits.max_heads = shape_.heads;
    limits.kv_heads_min = shape_.groups;
    limits.max_qk_dim = shape_.qk_dim;
    limits.max_v_dim = shape_.v_dim;
    limits.min_block = shape_.block;
    // Other ops' leftovers are NaN too.
    workspace_.resize(std::max(workspace_.size(), AttentionWorkspaceBytes(pool_.size(), limits)));
    std::memset(workspace_.data(), 0xff, workspace_.size());
    const OpContext ctx{nullptr, workspace_.data(), workspace_.size()};

    const size_t rows = position.size() * static_cast<size_t>(shape_.heads * shape_.v_dim);
    std::vector<float> dense(rows), near(rows), sparse(rows);
    std::vector<int32_t> chosen(position.size() * static_cast<size_t>(shape_.groups * shape_.top));
    std::vector<int32_t> counts(position.size() * static_cast<size_t>(shape_.groups));
    const BlockSelection selection{shape_.block, shape_.top, chosen.data(), counts.data()};

    AttentionParams common;
    common.batch = batch;
    common.q = q.data();
    common.q_stride = shape_.heads * shape_.qk_dim + 1;
    common.heads = shape_.heads;
    common.scale = 1.0f / std::sqrt(static_cast<float>(shape_.qk_dim));
    common.sink = shape_.sink ? sink_.data() : nullptr;
    auto write = [&](const PagedKv& kv) {
      KvWriteParams p;
      p.batch = batch;
      p.k = k.data();
      p.v = v.data();
      p.k_stride = shape_.groups * shape_.qk_dim + 1;
      p.v_stride = shape_.groups * shape_.v_dim + 1;
      p.kv = kv;
      KvWrite(pool_, p);
    };
    const PagedKv global_view = global.View(ids);
    write(global_view);
    if (begin_.empty()) {
      DenseAttentionParams dense_params{common, &selection};
      dense_params.kv = global_view;
      dense_params.out = dense.data();
      Attend(ctx, dense_params, AttentionKind::kDense, 0, &selection);
      SparseAttentionParams sparse_params{common, selection};
      sparse_params.kv = global_view;
      sparse_params.out = sparse.data();
      Attend(ctx, sparse_params, AttentionKind::kSparse, 0, &selection);
    }
    WindowAttentionParams window_params{common, shape_.window};
    window_params.kv = window.View(ids);
    if (!begin_.empty()) window_params.first_key = first_key.data();
    write(window_params.kv);
    window_params.out = near.data();
    Attend(ctx, window_params, AttentionKind::kWindow, shape_.window, nullptr, window_params.first_key);

    for (size_t t = 0; t < position.size(); ++t) {
      Outputs& out = outputs[static_cast<size_t>(ids[static_cast<size_t>(sequence[t])])];
      auto copy = [&](const auto& from, auto& to, int width) {
        std::copy_n(from.begin() + static_cast<int64_t>(t) * width, width, to.begin() + int64_t{position[t]} * width);
      };
      copy(dense, out.dense, shape_.heads * shape_.v_dim);
      copy(near, out.window, shape_.heads * shape_.v_dim);
      copy(sparse, out.sparse, shape_.heads * shape_.v_dim);
      copy(chosen, out.ids, shape_.groups * shape_.top);
      copy(counts, out.counts, shape_.groups);
    }
  }

  template <class Params>
  void Attend(const OpContext& ctx, const Params& p, AttentionKind kind, int window, const BlockSelection* blocks,
              const int32_t* first_key = nullptr) {
    if (!level_.has_value()) {
      RunAttention(pool_, PortableKernels(p.kv.dtype == DType::kBF16), ctx, p, kind, window, blocks, first_key);
    } else if constexpr (std::is_same_v<Params, DenseAttentionParams>) {
      DenseAttention(pool_, *level_, ctx, p);
    } else if constexpr (std::is_same_v<Params, WindowAttentionParams>) {
      WindowAttention(pool_, *level_, ctx, p);
    } else {
      SparseAttention(pool_, *level_, ctx, p);
    }
  }

  const Level level_;
  ThreadPool pool_;
  const Shape shape_;
  std::vector<float> sink_;
  std::vector<int> begin_;
  std::vector<std::byte> workspace_;
};

// What q is rounded to before its products.
inline DType QueryDType(const Level& level, DType pages) {
  return level.has_value() && *level >= CpuIsa::kAvx512Bf16 ? pages : DType::kF32;
}

// The formulas of spec/hysparse.md, sections 2 and 3, in float64, for one token and head.
struct ReferenceRow {
  std::vector<double> out;
  std::vector<double> logit;  // by key; -inf where not visible
  double lse;
};

template <class Visible>
ReferenceRow Reference(const Shape& shape, DType query_dtype, const Inputs& in, int token, int head, const float* sink,
                       Visible visible) {
  const int g = head / shape.group();
  const double none = -std::numeric_limits<double>::infinity();
  ReferenceRow row{std::vector<double>(static_cast<size_t>(shape.v_dim), 0.0),
                   std::vector<double>(static_cast<size_t>(token + 1), none), 0.0};
  double peak = sink != nullptr ? sink[head] : none;
  for (int i = 0; i <= token; ++i) {
    if (!visible(i)) continue;
    double dot = 0;
    for (int d = 0; d < shape.qk_dim; ++d) {
      dot += static_cast<double>(
                 RoundTo(query_dtype, in.q[static_cast<size_t>((token * shape.heads + head) * shape.qk_dim + d)])) *
             RoundTo(shape.dtype, in.k[static_cast<size_t>((i * shape.groups + g) * shape.qk_dim + d)]);
    }
    row.logit[static_cast<size_t>(i)] = dot / std::sqrt(static_cast<double>(shape.qk_dim));
    peak = std::max(peak, row.logit[static_cast<size_t>(i)]);
  }
  double total = sink != nullptr ? std::exp(sink[head] - peak) : 0.0;
  for (double logit : row.logit) total += std::exp(logit - peak);
  row.lse = peak + std::log(total);
  for (int i = 0; i <= token; ++i) {
    const double p = std::exp(row.logit[static_cast<size_t>(i)] - row.lse);
    if (p == 0) continue;
    for (int e = 0; e < shape.v_dim; ++e) {
      row.out[static_cast<size_t>(e)] +=
          p * RoundTo(shape.dtype, in.v[static_cast<size_t>((i * shape.groups + g) * shape.v_dim + e)]);
    }
  }
  return row;
}

// Steps that take one prompt of `length` tokens in chunks of `chunk`.
inline std::vector<std::vector<Chunk>> InChunks(int length, int chunk) {
  std::vector<std::vector<Chunk>> steps;
  for (int at = 0; at < length; at += chunk) steps.push_back({{0, std::min(chunk, length - at)}});
  return steps;
}

}  // namespace hysparse::cpu
