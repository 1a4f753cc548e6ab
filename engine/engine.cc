#include "engine/engine.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/base/result.h"
#include "engine/inbox.h"
#include "engine/kv/block_manager.h"
#include "engine/schedule/scheduler.h"
#include "engine/sequence.h"
#include "engine/stats_board.h"
#include "engine/validate.h"

namespace hysparse {
namespace {

int32_t MaxModelLen(const EngineOptions& options, const ModelSpec& spec) {
  return options.max_model_len > 0 ? std::min(options.max_model_len, spec.max_context) : spec.max_context;
}

KvLayout PagesOf(const EngineOptions& options, const ModelSpec& spec) {
  KvLayout layout = MakeKvLayout(spec, spec.checkpoint_dtype);
  if (options.global_page_tokens > 0) layout.global.page_tokens = options.global_page_tokens;
  if (options.window_page_tokens > 0) layout.window.page_tokens = options.window_page_tokens;
  return layout;
}

double Between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

constexpr Clock::time_point kNever{};

}  // namespace

// The members above the line are the engine thread's alone; those below are shared and guard themselves.
class Engine::Impl {
 public:
  Impl(const EngineOptions& options, const ModelSpec& spec, std::unique_ptr<Executor> executor,
       EngineObserver* observer)
      : options_(options),
        spec_(spec),
        max_model_len_(MaxModelLen(options, spec)),
        layout_(PagesOf(options, spec)),
        executor_(std::move(executor)),
        observer_(observer),
        blocks_(layout_.global, options.global_pages, layout_.window, options.window_pages),
        scheduler_({options.max_num_seqs, options.max_num_batched_tokens}, &blocks_),
        inbox_(options.max_waiting) {
    PublishStats();
  }

  void Start() {
    std::lock_guard lock(lifecycle_);
    if (!thread_.joinable() && !stopped_) thread_ = std::thread([this] { Run(); });
  }

  void Stop() {
    std::lock_guard lock(lifecycle_);
    if (std::exchange(stopped_, true)) return;
    inbox_.Stop();
    if (thread_.joinable()) {
      thread_.join();
    } else {
      Run();  // never started: answers what was queued
    }
  }

  absl::Status Submit(GenerateRequest request, std::shared_ptr<OutputSink> sink);
  void Cancel(const std::string& id, int32_t choice) { inbox_.Cancel(id, choice); }
  EngineStats Stats() const { return board_.Read(inbox_.waiting()); }

 private:
  using SequencePtr = std::shared_ptr<Sequence>;

  void Run();
  void Receive(std::vector<Command>& commands);
  void AddRequest(const std::shared_ptr<RequestState>& request);
  void CancelRequest(const std::string& id, int32_t choice);
  void RunStep();
  void CommitStep(const StepPlan& plan, const StepResult& result);
  void CommitChunk(const PlannedChunk& chunk, Sequence& sequence, const StepResult& result, size_t row);
  void ObserveToken(Sequence& sequence);
  void FailPlanned(const absl::Status& error);
  void End(Sequence& sequence, FinishReason reason, StepOutput output = {});
  void EndAll(FinishReason reason, const absl::Status& error);
  void PublishStats();
  void CheckInvariants() const;

  const EngineOptions options_;
  const ModelSpec spec_;
  const int32_t max_model_len_;
  const KvLayout layout_;
  std::unique_ptr<Executor> executor_;
  EngineObserver* observer_;
  BlockManager blocks_;  // outlives the sequences below
  Scheduler scheduler_;
  std::unordered_map<std::string, std::vector<SequencePtr>> requests_;  // live choices by request id
  int64_t next_sequence_ = 0;
  Clock::time_point now_{};
  // ---
  Inbox inbox_;
  StatsBoard board_;
  std::mutex lifecycle_;
  bool stopped_ = false;
  std::thread thread_;
};

absl::Status Engine::Impl::Submit(GenerateRequest request, std::shared_ptr<OutputSink> sink) {
  if (sink == nullptr) return absl::InvalidArgumentError("a request needs a sink");
  HYSPARSE_RETURN_IF_ERROR(ValidateRequest(request, spec_, max_model_len_));
  if (request.n < 1 || request.n > options_.max_waiting) {
    return absl::InvalidArgumentError(absl::StrCat("n must be in 1 … ", options_.max_waiting, ", not ", request.n));
  }
  auto state = std::make_shared<RequestState>();
  request.max_tokens =
      std::min<int32_t>(request.max_tokens, max_model_len_ - static_cast<int32_t>(request.prompt.size()));
  request.min_tokens = std::min(request.min_tokens, request.max_tokens);
  HYSPARSE_RETURN_IF_ERROR(
      blocks_.CanEverFit(int64_t{request.max_tokens} + static_cast<int64_t>(request.prompt.size()) - 1));

  std::vector<int32_t>& stops = state->stop_ids;
  stops = request.stop_token_ids;
  if (!request.ignore_eos) stops.insert(stops.end(), spec_.stop_ids.begin(), spec_.stop_ids.end());
  std::erase_if(stops, [this](int32_t id) { return id < 0 || id >= spec_.vocab; });  // never sampled
  std::sort(stops.begin(), stops.end());
  stops.erase(std::unique(stops.begin(), stops.end()), stops.end());

  state->arrival = Clock::now();
  state->live_choices = request.n;
  state->request = std::move(request);
  state->sink = std::move(sink);
  return inbox_.Submit(std::move(state));
}

void Engine::Impl::Run() {
  std::vector<Command> commands;
  for (;;) {
    const bool idle = requests_.empty();
    const bool go_on = inbox_.Take(idle, commands);
    now_ = Clock::now();
    if (idle) board_.Wake(now_);
    Receive(commands);
    if (!go_on) break;
    if (!requests_.empty()) RunStep();
    PublishStats();
  }
  EndAll(FinishReason::kCancelled, absl::OkStatus());
  PublishStats();
}

void Engine::Impl::Receive(std::vector<Command>& commands) {
  for (Command& command : commands) {
    if (command.request) {
      AddRequest(command.request);
    } else {
      CancelRequest(command.cancel_id, command.cancel_choice);
    }
  }
  commands.clear();  // drops the last reference of a request that has ended already
}

void Engine::Impl::AddRequest(const std::shared_ptr<RequestState>& request) {
  std::vector<SequencePtr> choices;
  for (int32_t choice = 0; choice < request->request.n; ++choice) {
    choices.push_back(std::make_shared<Sequence>(next_sequence_++, request, choice));
  }
  requests_[request->request.id] = choices;
  for (const SequencePtr& sequence : choices) {
    if (sequence->pending_tokens() == 0) {
      End(*sequence, FinishReason::kLength);  // nothing to generate, nothing to score
    } else {
      scheduler_.Add(sequence);
    }
  }
}

void Engine::Impl::CancelRequest(const std::string& id, int32_t choice) {
  const auto found = requests_.find(id);
  if (found == requests_.end()) return;
  const std::vector<SequencePtr> choices = found->second;  // End erases from the original
  for (const SequencePtr& sequence : choices) {
    if (sequence->state() == SequenceState::kFinished || (choice >= 0 && sequence->choice() != choice)) continue;
    End(*sequence, FinishReason::kCancelled);
  }
}

void Engine::Impl::RunStep() {
  const size_t waiting = scheduler_.waiting().size();
  const StepPlan plan = scheduler_.Plan();
  if (plan.chunks.empty()) return EndAll(FinishReason::kError, absl::InternalError("no sequence can make progress"));
  PublishStats();  // before the queue shrinks, so that nobody sees a sequence in neither
  inbox_.Left(static_cast<int32_t>(waiting - scheduler_.waiting().size()));
  int32_t prompt_tokens = 0;
  for (size_t i = 0; i < plan.chunks.size(); ++i) {
    Sequence& sequence = *scheduler_.planned()[i];
    if (sequence.first_scheduled == kNever) sequence.first_scheduled = now_;
    if (sequence.state() == SequenceState::kPrefill)
      prompt_tokens += static_cast<int32_t>(plan.chunks[i].tokens.size());
  }

  const absl::StatusOr<StepResult> result = executor_->Execute(plan);
  const Clock::time_point start = std::exchange(now_, Clock::now());
  board_.Step(now_);
  if (observer_ != nullptr) {
    observer_->OnStep(plan.num_tokens(), prompt_tokens, static_cast<int32_t>(plan.chunks.size()), Between(start, now_));
  }
  if (result.ok()) {
    CommitStep(plan, *result);
  } else {
    FailPlanned(result.status());
  }
  if (options_.check_invariants) CheckInvariants();
}

void Engine::Impl::CommitStep(const StepPlan& plan, const StepResult& result) {
  size_t rows = 0;
  for (const PlannedChunk& chunk : plan.chunks) rows += chunk.rows.size();
  if (result.token.size() != rows || result.logprob.size() != rows || result.top_logprobs.size() != rows) {
    return FailPlanned(
        absl::InternalError(absl::StrCat("the step returned ", result.token.size(), " of ", rows, " rows")));
  }
  size_t row = 0;
  for (size_t i = 0; i < plan.chunks.size(); ++i) {
    CommitChunk(plan.chunks[i], *scheduler_.planned()[i], result, row);
    row += plan.chunks[i].rows.size();
  }
}

void Engine::Impl::CommitChunk(const PlannedChunk& chunk, Sequence& sequence, const StepResult& result, size_t row) {
  sequence.Advance();
  StepOutput output;
  FinishReason finish = FinishReason::kNone;
  for (const SampleRow& planned : chunk.rows) {
    TokenOutput token{result.token[row], result.logprob[row], result.top_logprobs[row]};
    ++row;
    if (token.token < 0 || token.token >= spec_.vocab) {
      output.error =
          absl::InternalError("no token can be sampled: the model's logits are not finite, or all are banned");
      return End(sequence, FinishReason::kError, std::move(output));
    }
    if (planned.target >= 0) {
      output.prompt.push_back(std::move(token));
      continue;
    }
    finish = sequence.Accept(token.token);
    ObserveToken(sequence);
    if (finish == FinishReason::kStop) {
      output.stop_token = token.token;
    } else {
      output.tokens.push_back(std::move(token));
    }
  }
  if (finish == FinishReason::kNone && sequence.pending_tokens() == 0) finish = FinishReason::kLength;  // only scored
  if (finish != FinishReason::kNone) return End(sequence, finish, std::move(output));
  if (output.prompt.empty() && output.tokens.empty()) return;
  output.choice = sequence.choice();
  sequence.shared()->sink->OnOutput(std::move(output));
}

void Engine::Impl::ObserveToken(Sequence& sequence) {
  const bool first = sequence.first_token == kNever;
  if (first) sequence.first_token = now_;
  const Clock::time_point last = std::exchange(sequence.last_token, now_);
  if (observer_ == nullptr) return;
  if (first) {
    observer_->OnFirstToken(Between(sequence.shared()->arrival, now_));
  } else {
    observer_->OnInterTokenLatency(Between(last, now_));
  }
}

void Engine::Impl::FailPlanned(const absl::Status& error) {
  const std::vector<SequencePtr> planned = scheduler_.planned();
  for (const SequencePtr& sequence : planned) {
    StepOutput output;
    output.error = error;
    End(*sequence, FinishReason::kError, std::move(output));
  }
}

// The one way out: stop, length, cancel, error and shutdown all end here.
void Engine::Impl::End(Sequence& sequence, FinishReason reason, StepOutput output) {
  RequestTimes times;
  const Clock::time_point arrival = sequence.shared()->arrival;
  const bool scheduled = sequence.first_scheduled != kNever, sampled = sequence.first_token != kNever;
  times.queue_s = Between(arrival, scheduled ? sequence.first_scheduled : now_);
  if (scheduled) times.prefill_s = Between(sequence.first_scheduled, sampled ? sequence.first_token : now_);
  if (sampled) times.decode_s = Between(sequence.first_token, now_);
  if (sampled) times.ttft_s = Between(arrival, sequence.first_token);
  times.e2e_s = Between(arrival, now_);
  times.prompt_tokens = sequence.prompt_tokens();
  times.output_tokens = sequence.output_tokens();
  times.finish = reason;

  const std::shared_ptr<RequestState> request = sequence.shared();
  output.choice = sequence.choice();
  output.finish = reason;
  const bool queued = sequence.state() == SequenceState::kWaiting;
  sequence.Finish(reason);
  scheduler_.Remove(sequence);
  // From here `sequence` may be gone.
  const bool last = --request->live_choices == 0;
  if (last) {
    requests_.erase(request->request.id);
    inbox_.Forget(request->request.id);
  }
  if (observer_ != nullptr) observer_->OnFinished(times);
  request->sink->OnOutput(std::move(output));
  if (last) request->sink.reset();
  if (queued) inbox_.Left(1);
}

void Engine::Impl::EndAll(FinishReason reason, const absl::Status& error) {
  while (!requests_.empty()) {
    const std::vector<SequencePtr> choices = requests_.begin()->second;
    for (const SequencePtr& sequence : choices) {
      if (sequence->state() == SequenceState::kFinished) continue;
      StepOutput output;
      output.error = error;
      End(*sequence, reason, std::move(output));
    }
  }
}

void Engine::Impl::PublishStats() {
  EngineStats stats;
  stats.running = static_cast<int32_t>(scheduler_.running().size());
  const PagePool &global = blocks_.pool(KvClass::kGlobal), &window = blocks_.pool(KvClass::kWindow);
  stats.global_pages_used = global.referenced();
  stats.global_pages_total = global.total();
  stats.window_pages_used = window.referenced();
  stats.window_pages_total = window.total();
  for (const SequencePtr& sequence : scheduler_.running()) stats.kv_tokens += sequence->computed_tokens();
  board_.Publish(stats, !requests_.empty());
}

void Engine::Impl::CheckInvariants() const {
  std::vector<const SequenceKv*> holders;
  for (const SequencePtr& sequence : scheduler_.running()) holders.push_back(sequence->kv());
  if (const absl::Status status = blocks_.Check(holders); !status.ok()) {
    std::fprintf(stderr, "KV cache: %s\n", status.ToString().c_str());
    std::abort();
  }
}

Engine::Engine(const EngineOptions& options, const ModelSpec& spec, std::unique_ptr<Executor> executor,
               EngineObserver* observer)
    : impl_(std::make_unique<Impl>(options, spec, std::move(executor), observer)) {}
Engine::~Engine() { Stop(); }
void Engine::Start() { impl_->Start(); }
void Engine::Stop() { impl_->Stop(); }
absl::Status Engine::Submit(GenerateRequest request, std::shared_ptr<OutputSink> sink) {
  return impl_->Submit(std::move(request), std::move(sink));
}
void Engine::Cancel(const std::string& id, int32_t choice) { impl_->Cancel(id, choice); }
EngineStats Engine::Stats() const { return impl_->Stats(); }

}  // namespace hysparse
