// MeasureGemmRate: oneDNN as the yardstick. Nothing else uses it: its own products may change their order of summation
// with the number of rows, and its threads are OpenMP's.
#include <dlfcn.h>

#include <algorithm>
#include <dnnl.hpp>
#include <random>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/base/result.h"
#include "kernels/cpu/bf16.h"
#include "kernels/cpu/ceilings.h"
#include "kernels/cpu/cpu_features.h"

namespace hysparse::cpu {
namespace {

using dnnl::memory;

constexpr double kSecondsPerSplit = 0.1;

dnnl::cpu_isa Cap(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kAvx2:
      return dnnl::cpu_isa::avx2;
    case CpuIsa::kAvx512:
      return dnnl::cpu_isa::avx512_core;
    case CpuIsa::kAvx512Bf16:
      return dnnl::cpu_isa::avx512_core_bf16;
    case CpuIsa::kAmx:
      break;
  }
  return dnnl::cpu_isa::avx512_core_amx;
}

// The calling thread runs primitives alone: the threads are ours. The function is that of the OpenMP library that
// oneDNN brought along, if it did.
void RunAlone() {
  using SetThreads = void (*)(int);
  static const auto set = reinterpret_cast<SetThreads>(dlsym(RTLD_DEFAULT, "omp_set_num_threads"));
  if (set != nullptr) set(1);
}

std::vector<std::byte> RandomBytes(int64_t count, DType dtype, uint32_t seed) {
  std::mt19937 rng(seed);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::vector<std::byte> bytes(count * SizeOf(dtype));
  for (int64_t i = 0; i < count; ++i) {
    const float value = uniform(rng);
    if (dtype == DType::kF32) {
      reinterpret_cast<float*>(bytes.data())[i] = value;
    } else {
      reinterpret_cast<uint16_t*>(bytes.data())[i] = FloatToBf16(value);
    }
  }
  return bytes;
}

// One product of rows × cols × k, ready to run from any thread, on operands of that thread's own.
class Product {
 public:
  Product(const dnnl::engine& engine, DType dtype, int rows, int cols, int k, int threads) : engine_(engine) {
    const auto type = dtype == DType::kBF16 ? memory::data_type::bf16 : memory::data_type::f32;
    const auto any = memory::format_tag::any, ab = memory::format_tag::ab;
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const memory::desc a({rows, k}, type, any), w({k, cols}, type, any), out({rows, cols}, memory::data_type::f32, ab);
    const dnnl::matmul::primitive_desc desc({a, w, out}, attr, engine_);
    matmul_ = dnnl::matmul(desc);
    std::vector<std::byte> a_bytes = RandomBytes(int64_t{rows} * k, dtype, 1);
    std::vector<std::byte> w_bytes = RandomBytes(int64_t{k} * cols, dtype, 2);
    dnnl::stream stream(engine_);
    for (int i = 0; i < threads; ++i) {
      Operands& own = operands_.emplace_back();
      own.a = memory(desc.src_desc(), engine_);
      own.w = memory(desc.weights_desc(), engine_);
      Fill(stream, {{rows, k}, type, ab}, a_bytes, own.a);
      Fill(stream, {{k, cols}, type, memory::format_tag::ba}, w_bytes, own.w);
      own.args = {{DNNL_ARG_SRC, own.a},
                  {DNNL_ARG_WEIGHTS, own.w},
                  {DNNL_ARG_DST, memory(desc.dst_desc(), engine_)},
                  {DNNL_ARG_SCRATCHPAD, memory(desc.scratchpad_desc(), engine_)}};
    }
  }

  void Run(int thread) const {
    RunAlone();
    dnnl::stream stream(engine_);
    matmul_.execute(stream, operands_[thread].args);
    stream.wait();
  }

 private:
  struct Operands {
    memory a, w;
    std::unordered_map<int, memory> args;
  };

  void Fill(dnnl::stream& stream, const memory::desc& plain, std::vector<std::byte>& bytes, memory& to) const {
    memory from(plain, engine_, bytes.data());
    dnnl::reorder(from, to).execute(stream, from, to);
    stream.wait();
  }

  dnnl::engine engine_;
  dnnl::matmul matmul_;
  std::vector<Operands> operands_;
};

// FLOP/s of `pieces` products of rows × cols at a time.
double RateOfSplit(ThreadPool& pool, const dnnl::engine& engine, DType dtype, int rows, int cols, int k, int pieces) {
  const Product product(engine, dtype, rows, cols, k, pool.size());
  const auto all = [&] { pool.ParallelFor(pieces, [&](int64_t, int worker) { product.Run(worker); }); };
  all();
  double best = 0;
  for (const auto start = Clock::now(); best == 0 || SecondsSince(start) < kSecondsPerSplit;) {
    const auto lap = Clock::now();
    all();
    best = std::max(best, 2.0 * rows * cols * k * pieces / SecondsSince(lap));
  }
  return best;
}

}  // namespace

absl::StatusOr<double> MeasureGemmRate(ThreadPool& pool, DType dtype, int m, int n, int k) {
  HYSPARSE_ASSIGN_OR_RETURN(const CpuIsa isa, DetectCpuIsa());
  if (dtype == DType::kF16 || m <= 0 || n <= 0 || k <= 0) {
    return absl::InvalidArgumentError(absl::StrCat("no product of ", Name(dtype), " ", m, " x ", n, " x ", k));
  }
  if (dtype == DType::kBF16 && isa < CpuIsa::kAvx512) {
    return absl::UnimplementedError("oneDNN has no bfloat16 product without AVX-512");
  }
  const int threads = pool.size();
  const auto share = [](int all, int parts) { return (all + parts - 1) / parts; };
  double best = 0;
  try {
    dnnl::set_max_cpu_isa(Cap(isa));  // refused once oneDNN has run, with the same cap then
    const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    for (const int rows : {share(m, threads), 256, 128, 64}) {
      if (rows > m) continue;
      best = std::max(best, RateOfSplit(pool, engine, dtype, rows, n, k, share(m, rows)));
    }
    if (n >= threads * 16) {
      best = std::max(best, RateOfSplit(pool, engine, dtype, m, share(n, threads), k, threads));
    }
  } catch (const dnnl::error& error) {
    return absl::InternalError(absl::StrCat("oneDNN: ", error.what()));
  }
  return best;
}

}  // namespace hysparse::cpu
