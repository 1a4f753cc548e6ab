#include "server/cli/bench_runs.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <random>

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/base/result.h"

namespace hysparse {
namespace {

double Between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

// When each token of each sequence came, and how much forward time had passed by then. Written on the engine's thread.
class Stamps {
 public:
  struct Stamp {
    Clock::time_point at;
    int64_t forward_ns = 0, steps = 0;
  };

  Stamps(int32_t sequences, const TimedRunner::Totals& totals)
      : totals_(totals), stamps_(static_cast<size_t>(sequences)), left_(sequences) {}

  void Add(size_t sequence, const StepOutput& output) {
    std::lock_guard lock(mutex_);
    for (size_t i = 0; i < output.tokens.size(); ++i) {
      stamps_[sequence].push_back({Clock::now(), totals_.nanoseconds, totals_.steps});
    }
    if (output.finish == FinishReason::kNone) return;
    if (output.finish != FinishReason::kLength) {
      status_ = output.error.ok() ? absl::InternalError("a sequence ended early") : output.error;
    }
    if (--left_ == 0) done_.notify_all();
  }

  absl::StatusOr<std::vector<std::vector<Stamp>>> Wait() {
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return left_ == 0; });
    if (!status_.ok()) return status_;
    return std::move(stamps_);
  }

 private:
  const TimedRunner::Totals& totals_;
  std::mutex mutex_;
  std::condition_variable done_;
  std::vector<std::vector<Stamp>> stamps_;
  int32_t left_;
  absl::Status status_;
};

class StampSink : public OutputSink {
 public:
  StampSink(std::shared_ptr<Stamps> stamps, size_t sequence) : stamps_(std::move(stamps)), sequence_(sequence) {}
  void OnOutput(StepOutput output) override { stamps_->Add(sequence_, output); }

 private:
  std::shared_ptr<Stamps> stamps_;
  size_t sequence_;
};

}  // namespace

absl::StatusOr<StepResult> TimedRunner::Run(StepPlan& plan) {
  const Clock::time_point start = Clock::now();
  absl::StatusOr<StepResult> result = inner_->Run(plan);
  totals_->nanoseconds += std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
  ++totals_->steps;
  return result;
}

std::vector<int32_t> RandomPrompt(int32_t vocab, int32_t tokens, uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::vector<int32_t> ids(static_cast<size_t>(tokens));
  for (int32_t& id : ids) id = static_cast<int32_t>(generator() % static_cast<uint64_t>(vocab));
  return ids;
}

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

absl::StatusOr<BenchRun> RunBatch(Engine& engine, const TimedRunner::Totals& totals, int32_t vocab, int32_t sequences,
                                  int32_t prompt, int32_t output) {
  static std::atomic<uint64_t> count{0};
  auto stamps = std::make_shared<Stamps>(sequences, totals);
  const Clock::time_point start = Clock::now();
  for (int32_t s = 0; s < sequences; ++s) {
    GenerateRequest request;
    const uint64_t number = count++;
    request.id = absl::StrCat("bench-", number);
    request.prompt = RandomPrompt(vocab, prompt, number);
    request.max_tokens = output;
    request.ignore_eos = true;
    request.sampling.temperature = 0;
    HYSPARSE_RETURN_IF_ERROR(engine.Submit(std::move(request), std::make_shared<StampSink>(stamps, s)));
  }
  HYSPARSE_ASSIGN_OR_RETURN(const auto times, stamps->Wait());

  // The time in which every sequence decodes: from the last one's first token to the first one's last.
  Stamps::Stamp from = times[0].front(), to = times[0].back();
  for (const auto& sequence : times) {
    if (sequence.front().at > from.at) from = sequence.front();
    if (sequence.back().at < to.at) to = sequence.back();
  }
  BenchRun run;
  run.first_token_s = Between(start, from.at);
  const double seconds = Between(from.at, to.at);
  const int64_t steps = to.steps - from.steps;
  if (seconds <= 0 || steps <= 0) return run;
  run.inter_token_s = seconds / static_cast<double>(steps);
  run.decode_tokens_s = sequences / run.inter_token_s;
  run.forward_per_step_s = static_cast<double>(to.forward_ns - from.forward_ns) * 1e-9 / static_cast<double>(steps);
  return run;
}

}  // namespace hysparse
