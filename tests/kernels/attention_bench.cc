// Speed of the attention ops on this machine, on random data larger than the caches.
//
//   attention_bench [THREADS] [FILTER]      HYSPARSE_MAX_ISA caps the instruction set
//
// Prefill prints GFLOP/s of the products that causality leaves; decode prints the GB/s at which K and V are read, next
// to the machine's read bandwidth, measured first.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/attention/attention.h"

namespace hysparse::cpu {
namespace {

struct Model {
  const char* name;
  int heads, groups, qk_dim, v_dim;
};
constexpr Model kSmolLm2 = {"smollm2-135m", 9, 3, 64, 64};
constexpr Model kPaper80b = {"paper-80b", 64, 4, 192, 128};
constexpr int kPage = 64, kBlock = 64, kTop = 16, kWindow = 128;

// The best of several runs, in seconds: a machine that does other work too only ever adds to it. One thread's time is
// its processor time, for the same reason.
double Time(int threads, const std::function<void(int)>& run, int runs = 5) {
  auto now = [threads] {
    timespec at;
    clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &at);
    return static_cast<double>(at.tv_sec) + 1e-9 * static_cast<double>(at.tv_nsec);
  };
  run(0);
  double best = 1e9, total = 0;
  for (int i = 1; i <= runs || (runs > 1 && total < 0.7 && i < 300); ++i) {
    const double start = now();
    run(i);
    const double seconds = now() - start;
    best = std::min(best, seconds);
    total += seconds;
  }
  return best;
}

double ReadBandwidth(ThreadPool& pool) {
  constexpr int64_t kChunk = 1 << 20, kChunks = 256;
  std::vector<uint64_t> data(kChunk * kChunks / 8, 1);
  std::vector<uint64_t> sums(kChunks);
  const double seconds = Time(pool.size(), [&](int) {
    pool.ParallelFor(kChunks, [&](int64_t c, int) {
      uint64_t sum[8] = {};
      const uint64_t* at = data.data() + c * kChunk / 8;
      for (int64_t i = 0; i < kChunk / 8; i += 8) {
        for (int j = 0; j < 8; ++j) sum[j] += at[i + j];
      }
      for (uint64_t part : sum) sums[static_cast<size_t>(c)] += part;
    });
  });
  return static_cast<double>(kChunk * kChunks) / seconds;
}

class Bench {
 public:
  Bench(ThreadPool& pool, CpuIsa isa, const Model& model, DType dtype, int sequences, int context, int chunk)
      : pool_(pool), isa_(isa), model_(model), sequences_(sequences), context_(context), chunk_(chunk) {
    const int64_t element = static_cast<int64_t>(SizeOf(dtype));
    kv_.v_offset = int64_t{model.groups} * kPage * model.qk_dim * element;
    layer_bytes_ = kv_.v_offset + int64_t{model.groups} * kPage * model.v_dim * element;
    const int64_t pages = int64_t{sequences} * ((context + kPage - 1) / kPage);
    // Layers enough that one does not find its pages in a cache.
    layers_ = static_cast<int>(std::clamp<int64_t>((int64_t{1} << 30) / (layer_bytes_ * pages), 1, 30));
    kv_.page_stride = layer_bytes_ * layers_;
    kv_.page_tokens = kPage;
    kv_.kv_heads = model.groups;
    kv_.qk_dim = model.qk_dim;
    kv_.v_dim = model.v_dim;
    kv_.dtype = dtype;
    memory_.resize(static_cast<size_t>(kv_.page_stride * pages));
    FillRandom(dtype);
    std::mt19937 random(1);
    table_.resize(static_cast<size_t>(pages));
    for (size_t i = 0; i < table_.size(); ++i) table_[i] = static_cast<int32_t>(i);
    std::shuffle(table_.begin(), table_.end(), random);
    kv_.block_table = table_.data();
    kv_.table_stride = static_cast<int32_t>(pages / sequences);
    for (int s = 0; s <= sequences; ++s) start_.push_back(s * chunk);
    for (int s = 0; s < sequences; ++s) {
      for (int i = 0; i < chunk; ++i) {
        sequence_.push_back(s);
        position_.push_back(context - chunk + i);
      }
    }
    const size_t tokens = static_cast<size_t>(sequences * chunk);
    std::normal_distribution<float> normal;
    q_.resize(tokens * static_cast<size_t>(model.heads * model.qk_dim));
    for (float& x : q_) x = 2 * normal(random);
    sink_.assign(static_cast<size_t>(model.heads), 0.0f);
    out_.resize(tokens * static_cast<size_t>(model.heads * model.v_dim) * 4);
    ids_.resize(tokens * static_cast<size_t>(model.groups * kTop));
    counts_.resize(tokens * static_cast<size_t>(model.groups));
    StepLimits limits;
    limits.max_tokens = static_cast<int32_t>(tokens);
    limits.max_context = context;
    limits.max_heads = model.heads;
    limits.kv_heads_min = model.groups;
    limits.max_qk_dim = model.qk_dim;
    limits.max_v_dim = model.v_dim;
    workspace_.resize(AttentionWorkspaceBytes(pool.size(), limits));
    ctx_ = {nullptr, workspace_.data(), workspace_.size()};
  }

  // Seconds of one call; at least `runs` are made.
  double Dense(bool select, int runs = 5) {
    const BlockSelection selection{kBlock, kTop, ids_.data(), counts_.data()};
    return Time(
        pool_.size(),
        [&](int i) {
          DenseAttentionParams p;
          Common(p, i);
          p.select = select ? &selection : nullptr;
          DenseAttention(pool_, isa_, ctx_, p);
        },
        runs);
  }
  double Window() {
    return Time(pool_.size(), [&](int i) {
      WindowAttentionParams p;
      Common(p, i);
      p.window = kWindow;
      WindowAttention(pool_, isa_, ctx_, p);
    });
  }
  // On what Dense(true) selected.
  double Sparse() {
    return Time(pool_.size(), [&](int i) {
      SparseAttentionParams p;
      Common(p, i);
      p.selected = {kBlock, kTop, ids_.data(), counts_.data()};
      SparseAttention(pool_, isa_, ctx_, p);
    });
  }

  // Floating-point operations when each token sees at most `keys` keys; bytes of K and V read by decodes.
  double Flops(int keys) const {
    double seen = 0;
    for (int position : position_) seen += std::min(position + 1, keys);
    return seen * model_.heads * 2.0 * (model_.qk_dim + model_.v_dim);
  }
  double Bytes(int keys) const {
    return static_cast<double>(layer_bytes_) / kPage * std::min(context_, keys) * sequences_;
  }

 private:
  void FillRandom(DType dtype) {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    std::vector<float> some(1 << 16);
    for (float& x : some) x = normal(random);
    const size_t count = memory_.size() / SizeOf(dtype);
    for (size_t i = 0; i < count; ++i) {
      const float x = some[(i * 40503) & 0xffff];
      if (dtype == DType::kF32) {
        std::memcpy(memory_.data() + i * 4, &x, 4);
      } else {
        std::memcpy(memory_.data() + i * 2, reinterpret_cast<const char*>(&x) + 2, 2);
      }
    }
  }
  void Common(AttentionParams& p, int run) {
    p.batch = {sequences_ * chunk_, sequences_, start_.data(), sequence_.data(), position_.data()};
    p.q = q_.data();
    p.q_stride = model_.heads * model_.qk_dim;
    p.heads = model_.heads;
    p.scale = 1.0f / 8;
    p.kv = kv_;
    p.kv.base = memory_.data() + (run % layers_) * layer_bytes_;
    p.sink = sink_.data();
    p.out = out_.data();
    p.out_dtype = kv_.dtype;
  }

  ThreadPool& pool_;
  const CpuIsa isa_;
  const Model model_;
  const int sequences_, context_, chunk_;
  int64_t layer_bytes_ = 0;
  int layers_ = 1;
  PagedKv kv_;
  OpContext ctx_;
  std::vector<std::byte> memory_, out_, workspace_;
  std::vector<int32_t> table_, start_, sequence_, position_, ids_, counts_;
  std::vector<float> q_, sink_;
};

// Prints one line for each op whose full name contains the filter.
void Run(ThreadPool& pool, CpuIsa isa, const Model& model, DType dtype, int sequences, int context, int chunk,
         const std::string& filter) {
  const bool prefill = chunk > 1;
  const std::string name = std::string(model.name) + " " + Name(dtype) + (prefill ? " prefill " : " decode ") +
                           std::to_string(context / 1024) + "k x " + std::to_string(sequences) + " ";
  const char* ops[] = {"dense", "select", "sparse", "window"};
  if (std::none_of(ops, ops + 4, [&](const char* op) { return (name + op).find(filter) != std::string::npos; })) return;
  Bench bench(pool, isa, model, dtype, sequences, context, chunk);
  bench.Dense(true, 1);  // what the sparse op reads
  auto report = [&](const char* op, int keys, auto run) {
    if ((name + op).find(filter) == std::string::npos) return;
    const double seconds = run(), work = prefill ? bench.Flops(keys) : bench.Bytes(keys);
    std::printf("%-46s %10.3f ms %9.1f %s\n", (name + op).c_str(), seconds * 1e3, work / seconds * 1e-9,
                prefill ? "GFLOP/s" : "GB/s");
    std::fflush(stdout);
  };
  report("dense", context, [&] { return bench.Dense(false); });
  report("select", context, [&] { return bench.Dense(true); });
  report("sparse", kBlock * kTop, [&] { return bench.Sparse(); });
  report("window", kWindow, [&] { return bench.Window(); });
}

}  // namespace
}  // namespace hysparse::cpu

int main(int argc, char** argv) {
  using namespace hysparse;
  using namespace hysparse::cpu;
  const auto isa = DetectCpuIsa();
  if (!isa.ok()) {
    std::fprintf(stderr, "%s\n", std::string(isa.status().message()).c_str());
    return 1;
  }
  const int threads = argc > 1 ? std::atoi(argv[1]) : AvailableCores();
  ThreadPool pool(threads);
  std::printf("%s, %d threads, memory read %.1f GB/s\n", Name(*isa), threads, ReadBandwidth(pool) * 1e-9);
  for (const Model& model : {kSmolLm2, kPaper80b}) {
    for (DType dtype : {DType::kBF16, DType::kF32}) {
      const std::string filter = argc > 2 ? argv[2] : "";
      Run(pool, *isa, model, dtype, 1, 2048, 2048, filter);
      for (int context : {2048, 32768}) {
        for (int sequences : {1, 16}) Run(pool, *isa, model, dtype, sequences, context, 1, filter);
      }
    }
  }
  return 0;
}
