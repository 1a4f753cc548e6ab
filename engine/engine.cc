#include "engine/engine.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/result.h"
#include "engine/engine_impl.h"
#include "engine/schedule/commit.h"
#include "engine/validate.h"

namespace hysparse {
namespace {

BlockManagerOptions BlocksOf(const EngineOptions& options, const ModelSpec& spec) {
  std::random_device entropy;
  BlockManagerOptions blocks;
  blocks.layout = options.kv_layout;
  blocks.device = options.arena;
  blocks.host = options.host_arena;
  blocks.rebuild_tokens = RebuildTokens(spec);
  blocks.hash_key = uint64_t{entropy()} << 32 | entropy();
  return blocks;
}

SchedulerOptions ScheduleOf(const EngineOptions& options, const ModelSpec& spec) {
  SchedulerOptions schedule;
  schedule.max_num_seqs = options.max_num_seqs;
  schedule.max_num_batched_tokens = options.max_num_batched_tokens;
  schedule.output_reserve = options.output_reserve;
  schedule.max_overtakes = options.max_overtakes;
  if (options.shrink_budget_with_depth) schedule.cost = StepCost(spec);
  return schedule;
}

}  // namespace

Engine::Impl::Impl(const EngineOptions& options, const ModelSpec& spec, std::unique_ptr<Executor> executor,
                   EngineObserver* observer)
    : options_(options),
      spec_(spec),
      max_model_len_(options.max_model_len > 0 ? std::min(options.max_model_len, spec.max_context) : spec.max_context),
      executor_(std::move(executor)),
      observer_(observer),
      blocks_(BlocksOf(options, spec)),
      scheduler_(ScheduleOf(options, spec), &blocks_),
      inbox_(options.max_waiting, options.max_waiting_tokens) {
  PublishStats();
}

void Engine::Impl::Start() {
  std::lock_guard lock(lifecycle_);
  if (!thread_.joinable() && !stopped_) thread_ = std::thread([this] { Run(); });
}

void Engine::Impl::Stop() {
  std::lock_guard lock(lifecycle_);
  if (std::exchange(stopped_, true)) return;
  inbox_.Stop();
  if (thread_.joinable()) {
    thread_.join();
  } else {
    Run();  // never started: answers what was queued
  }
}

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

  state->cached = options_.prefix_caching || request.n > 1;
  if (state->cached) {
    // Without a cache across requests, the choices of one still share: under a salt that is theirs alone.
    state->salt = blocks_.hash().Salt(options_.prefix_caching ? absl::StrCat("salt ", request.cache_salt)
                                                              : absl::StrCat("request ", request.id));
    state->page_hashes = blocks_.hash().Pages(state->salt, request.prompt);
  }
  state->arrival = Clock::now();
  state->live_choices = request.n;
  state->request = std::move(request);
  state->sink = std::move(sink);
  return inbox_.Submit(std::move(state));
}

void Engine::Impl::Run() {
  std::vector<Command> commands;
  for (;;) {
    const bool idle = requests_.empty() && in_flight_.empty();
    const bool go_on = inbox_.Take(idle, commands);
    now_ = Clock::now();
    if (idle) board_.Wake(last_done_ = now_);
    if (!commands.empty()) {
      Receive(commands);
      PublishStats();  // what a cancellation freed is seen before the steps under way are done
    }
    if (!go_on) break;
    const bool launched = !requests_.empty() && LaunchStep();
    // The step just planned waits at the device while the one before it runs.
    if (in_flight_.size() == Executor::kMaxSteps || (!launched && !in_flight_.empty())) CommitOldest();
    PublishStats();
  }
  for (; !in_flight_.empty(); in_flight_.pop_front()) (void)executor_->Wait();
  EndAll(FinishReason::kCancelled, absl::OkStatus());
  PublishStats();
}

void Engine::Impl::Receive(std::vector<Command>& commands) {
  SnapshotPtr snapshot;  // one for all that ask, with what came along
  for (Command& command : commands) {
    if (command.request) {
      AddRequest(command.request);
    } else if (!command.asked) {
      CancelRequest(command.cancel_id, command.cancel_choice);
    }
  }
  for (Command& command : commands) {
    if (!command.asked) continue;
    if (snapshot == nullptr) snapshot = Snapshot();
    command.asked(snapshot);
  }
  commands.clear();  // drops the last reference of a request that has ended already
}

void Engine::Impl::AddRequest(const std::shared_ptr<RequestState>& request) {
  std::vector<SequencePtr> choices;
  for (int32_t choice = 0; choice < request->request.n; ++choice) {
    choices.push_back(std::make_shared<Sequence>(next_sequence_++, request, choice));
  }
  requests_[request->request.id] = choices;
  // The first choice computes the prompt; the others find its pages in the prefix cache.
  for (const SequencePtr& sequence : choices) {
    if (sequence->pending_tokens() == 0) {
      End(*sequence, FinishReason::kLength);  // nothing to generate, nothing to score
    } else if (sequence == choices.front()) {
      scheduler_.Add(sequence);
    } else {
      request->followers.push_back(sequence);
    }
  }
  if (choices.front()->state() == SequenceState::kFinished || choices.front()->scores_prompt()) {
    ReleaseFollowers(*request);  // a scored prompt leaves nothing in the cache
  }
}

void Engine::Impl::ReleaseFollowers(RequestState& request) {
  for (const SequencePtr& sequence : std::exchange(request.followers, {})) {
    if (sequence->state() != SequenceState::kFinished) scheduler_.Add(sequence);
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
  if (reason == FinishReason::kStop || reason == FinishReason::kLength) {
    length_ratio_.Observe(sequence.output_tokens(), request->request.max_tokens);
  }
  output.choice = sequence.choice();
  output.reused_tokens = sequence.schedule.reused_tokens;
  output.finish = reason;
  const bool queued = !sequence.schedule.admitted;
  const int32_t prompt_tokens = sequence.prompt_tokens();
  EndSequence(sequence, reason, blocks_, scheduler_);
  // From here `sequence` may be gone.
  ReleaseFollowers(*request);
  const bool last = --request->live_choices == 0;
  if (last) {
    requests_.erase(request->request.id);
    inbox_.Forget(request->request.id);
  }
  if (observer_ != nullptr) observer_->OnFinished(times);
  request->sink->OnOutput(std::move(output));
  if (last) request->sink.reset();
  if (queued) inbox_.Left(prompt_tokens);
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

namespace {

KvClassStats StatsOf(const Arena& arena, KvClass kv_class) {
  const PageCounts& pages = arena.counts(kv_class);
  const int64_t stride = arena.layout().of(kv_class).page_stride;
  return {pages.referenced * stride, pages.cached * stride, pages.spilling * stride, pages.free * stride};
}

}  // namespace

void Engine::Impl::PublishStats() {
  EngineStats stats;
  stats.running = static_cast<int64_t>(scheduler_.running().size());
  stats.spilled = static_cast<int64_t>(scheduler_.spilled().size());
  const Arena &arena = blocks_.arena(), &host = blocks_.host();
  stats.global = StatsOf(arena, KvClass::kGlobal);
  stats.window = StatsOf(arena, KvClass::kWindow);
  stats.kv_unassigned = arena.unassigned_slabs() * arena.layout().slab_bytes;
  stats.kv_total = arena.layout().bytes();
  stats.room = blocks_.room();
  for (const KvClass kv_class : {KvClass::kGlobal, KvClass::kWindow}) {
    stats.host_used += StatsOf(host, kv_class).referenced;
  }
  stats.host_total = host.layout().bytes();
  for (const SequencePtr& sequence : scheduler_.running()) {
    stats.kv_tokens += sequence->planned_kv();
    stats.kv_window_tokens += sequence->kv()->window_tokens();
  }
  stats.preemptions = scheduler_.stats().preemptions;
  stats.spills = scheduler_.stats().spills;
  stats.recomputes = scheduler_.stats().recomputes;
  stats.spilled_bytes = blocks_.spilled_bytes_total();
  stats.prefix = blocks_.prefix_stats();
  board_.Publish(stats, !requests_.empty());
}

void Engine::Impl::CheckInvariants() const {
  if (const absl::Status status = blocks_.Check(); !status.ok()) {
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
absl::Status Engine::CanQueue() const { return impl_->CanQueue(); }
absl::Status Engine::AskSnapshot(std::function<void(SnapshotPtr)> then) { return impl_->AskSnapshot(std::move(then)); }
absl::StatusOr<QuoteResult> Engine::Quote(const ForecastInput& snapshot, int64_t prompt_tokens,
                                          int64_t max_tokens) const {
  return impl_->Quote(snapshot, prompt_tokens, max_tokens);
}
EngineStats Engine::Stats() const { return impl_->Stats(); }

}  // namespace hysparse
