#include "server/cli/answer.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/base/result.h"
#include "engine/text/detokenizer.h"

namespace hysparse {
namespace {

// Hands the engine thread's outputs to the waiting thread.
class QueueSink : public OutputSink {
 public:
  void OnOutput(StepOutput output) override {
    std::lock_guard lock(mutex_);
    outputs_.push_back(std::move(output));
    ready_.notify_one();
  }

  std::optional<StepOutput> Pop(std::chrono::milliseconds wait) {
    std::unique_lock lock(mutex_);
    if (!ready_.wait_for(lock, wait, [this] { return !outputs_.empty(); })) return std::nullopt;
    StepOutput output = std::move(outputs_.front());
    outputs_.pop_front();
    return output;
  }

 private:
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<StepOutput> outputs_;
};

}  // namespace

absl::StatusOr<AnswerResult> RunAnswer(const ServedModel& model, const GenerationSpec& spec, const AnswerHooks& hooks) {
  static std::atomic<uint64_t> count{0};
  const std::string id = absl::StrCat("answer-", count++);
  HYSPARSE_RETURN_IF_ERROR(CheckRanges(spec, {.vocab = model.spec.vocab}));
  HYSPARSE_ASSIGN_OR_RETURN(Generation generation, Prepare(model, spec, id));
  AnswerResult result;
  GenerateRequest request = std::move(generation.requests.front());
  result.prompt_tokens = static_cast<int32_t>(request.prompt.size());
  const std::string engine_id = request.id;
  auto sink = std::make_shared<QueueSink>();
  Detokenizer detokenizer(model.tokenizer, /*skip_special_tokens=*/true);
  const auto emit = [&](const std::string& piece) {
    if (piece.empty()) return;
    result.text += piece;
    if (hooks.text) hooks.text(piece);
  };

  const Clock::time_point start = Clock::now();
  Clock::time_point first = start;
  HYSPARSE_RETURN_IF_ERROR(model.engine->Submit(std::move(request), sink));
  for (bool cancelled = false; result.finish == FinishReason::kNone;) {
    if (!cancelled && hooks.stop && hooks.stop()) {
      cancelled = true;
      model.engine->Cancel(engine_id);
    }
    const std::optional<StepOutput> output = sink->Pop(std::chrono::milliseconds(50));
    if (!output) continue;
    if (result.tokens == 0 && !output->tokens.empty()) {
      first = Clock::now();
      result.prefill_s = std::chrono::duration<double>(first - start).count();
    }
    result.tokens += static_cast<int32_t>(output->tokens.size());
    for (const TokenOutput& token : output->tokens) emit(detokenizer.Append(token.token));
    result.finish = output->finish;
    if (output->finish == FinishReason::kError) return output->error;
  }
  emit(detokenizer.Finish());
  result.decode_s = SecondsSince(first);
  return result;
}

}  // namespace hysparse
