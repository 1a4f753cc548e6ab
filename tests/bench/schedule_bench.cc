// What the host pays per step: planning with 256 running sequences, half of them at a million tokens, and 10,000
// waiting; finding a million-token prompt in the prefix cache. All again after 100,000 requests have come and gone.
// Prints medians. And bytes of bookkeeping for such a sequence, beside its token ids: on the heap while it runs; what
// the arena keeps of each page, whoever uses it; what is left with the prefix cache.
//
//   cmake --build --preset release --target schedule_bench && build/release/tests/schedule_bench
#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "engine/schedule/scheduler.h"

namespace hysparse {
namespace {

constexpr int32_t kLong = 1 << 20, kShort = 2000, kRunning = 256, kWaiting = 10000, kFinished = 100000;

double Microseconds(std::chrono::steady_clock::duration time) {
  return std::chrono::duration<double, std::micro>(time).count();
}

// 5 full and 44 sparse layers: pages of 64 tokens, windows of 128.
KvLayout Layout() {
  KvLayout layout;
  layout.global = {5, 64, 0, 5 * 2048};
  layout.window = {44, 64, 128, 44 * 2048};
  return layout;
}

double HeapBytes() {
  const struct mallinfo2 info = mallinfo2();
  return static_cast<double>(info.uordblks + info.hblkhd);
}

class Bench {
 public:
  Bench() {
    BlockManagerOptions options;
    options.layout = Layout();
    const int64_t tokens = int64_t{kLong} * (kRunning / 2 + 48);  // nothing is evicted
    options.device = MakeArenaLayout(options.layout, tokens * options.layout.global.token_bytes).value();
    options.rebuild_tokens = 44 * 127;
    options.hash_key = 7;
    const double before = HeapBytes();
    blocks_ = std::make_unique<BlockManager>(options);
    // The tokens of cached pages among it.
    page_bytes_ =
        (HeapBytes() - before) / options.device.page_ids(KvClass::kGlobal) - 4 * options.layout.global.page_tokens;
    scheduler_ = std::make_unique<Scheduler>(SchedulerOptions{kRunning, 1 << 16, 512, 64, {}}, blocks_.get());
  }

  std::shared_ptr<Sequence> Add(int32_t prompt, int32_t max_tokens, bool cached) {
    auto state = std::make_shared<RequestState>();
    state->request.prompt.resize(static_cast<size_t>(prompt));
    for (int32_t& token : state->request.prompt) token = static_cast<int32_t>(random_ = random_ * 48271 % 2147483647);
    state->request.max_tokens = max_tokens;
    state->cached = cached;
    if (cached) state->page_hashes = blocks_->hash().Pages(state->salt, state->request.prompt);
    auto sequence = std::make_shared<Sequence>(next_id_++, state, 0);
    scheduler_->Add(sequence);
    return sequence;
  }

  // Plans and completes a step. Microseconds of the planning.
  double Step() {
    const auto start = std::chrono::steady_clock::now();
    const StepPlan plan = scheduler_->Plan();
    const double took = Microseconds(std::chrono::steady_clock::now() - start);
    blocks_->CompleteStep(plan.step);
    for (PlannedSequence& planned : scheduler_->TakePlanned()) {
      Sequence& sequence = *planned.sequence;
      sequence.Computed(planned.computed);
      FinishReason finish = FinishReason::kNone;
      for (int32_t row = planned.rows.begin; row < planned.rows.end; ++row) finish = sequence.Accept(plan.step, 1);
      const auto token = [&](int32_t at) { return sequence.token(at); };
      if (finish == FinishReason::kNone) {
        blocks_->Commit(*sequence.kv(), sequence.computed_tokens(), token);
      } else {
        End(sequence, finish);
      }
    }
    return took;
  }
  void End(Sequence& sequence, FinishReason finish) {
    if (sequence.kv() != nullptr) {
      blocks_->Retire(*sequence.kv(), sequence.computed_tokens(), [&](int32_t at) { return sequence.token(at); });
    }
    sequence.Finish(finish);
    scheduler_->Remove(sequence);
  }

  static double Median(std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2), values.end());
    return values[values.size() / 2];
  }
  double PlanTime() {
    std::vector<double> times(400);
    for (double& time : times) time = Step();
    return Median(times);
  }
  double LookupTime(const Sequence& sequence) {
    const RequestState& shared = *sequence.shared();
    KvRequest request{shared.request.prompt, shared.page_hashes, shared.salt, true, sequence.prompt_tokens(), kLong};
    std::vector<double> times(21);
    for (double& time : times) {
      PageNeed need;
      const auto start = std::chrono::steady_clock::now();
      const std::unique_ptr<SequenceKv> kv = blocks_->Admit(request, &need);
      time = Microseconds(std::chrono::steady_clock::now() - start);
      if (kv == nullptr || kv->cached_tokens() < kLong - 64) std::abort();
    }
    return Median(times);
  }

  Scheduler& scheduler() { return *scheduler_; }
  double page_bytes() const { return page_bytes_; }

 private:
  std::unique_ptr<BlockManager> blocks_;
  std::unique_ptr<Scheduler> scheduler_;
  int64_t next_id_ = 0;
  uint64_t random_ = 1;
  double page_bytes_ = 0;
};

void Run(int32_t finished) {
  Bench bench;
  for (int32_t done = 0; done < finished; ++done) {
    auto brief = bench.Add(200, 1, true);
    while (brief->state() != SequenceState::kFinished) bench.Step();
  }
  const double before = HeapBytes();
  auto found = bench.Add(kLong, 1, true);
  while (found->state() != SequenceState::kFinished) bench.Step();
  const double left = HeapBytes() - before - 4.0 * kLong;
  std::vector<std::shared_ptr<Sequence>> running;
  const double empty = HeapBytes();
  for (int32_t i = 0; i < kRunning / 2; ++i) running.push_back(bench.Add(kLong - 4096, 4096, false));
  while (running.back()->state() != SequenceState::kDecode) bench.Step();
  const double each = (HeapBytes() - empty) / (kRunning / 2) - 4.0 * (kLong - 4096);
  for (int32_t i = 0; i < kRunning / 2; ++i) running.push_back(bench.Add(kShort, 100000, false));
  std::vector<std::shared_ptr<Sequence>> waiting;
  for (int32_t i = 0; i < kWaiting; ++i) waiting.push_back(bench.Add(kShort, 512, false));
  for (int i = 0; i < 20; ++i) bench.Step();
  std::printf("%d finished requests, %zu running, %d waiting: plan %.1f us, lookup %.2f ms\n", finished,
              bench.scheduler().running().size(), bench.scheduler().num_waiting(), bench.PlanTime(),
              bench.LookupTime(*found) / 1000);
  if (finished > 0) return;
  const double pages = bench.page_bytes() * kLong / 64;
  std::printf("  1 M tokens: running %.0f KB; arena, for its pages %.0f KB; finished, hashes and snapshots %.0f KB\n",
              each / 1024, pages / 1024, left / 1024);
}

}  // namespace
}  // namespace hysparse

int main() {
  hysparse::Run(0);
  hysparse::Run(hysparse::kFinished);
}
