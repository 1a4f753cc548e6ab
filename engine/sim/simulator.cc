#include "engine/sim/simulator.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/inbox.h"
#include "engine/run/executor.h"
#include "engine/schedule/commit.h"

namespace hysparse {
namespace {

constexpr int kSeriesPoints = 400;
// Capacity: the queue is kept this long, and is measured once the caches and the mix of turns have settled.
constexpr int32_t kSaturatedQueue = 8;
constexpr double kSettle = 900, kMeasure = 1800;

class Simulator {
 public:
  Simulator(const SimulatorOptions& options, const WorkModel& work, const Workload& workload, const Load& load)
      : options_(options),
        work_(work),
        load_(load),
        arrivals_(workload, load, options.seed),
        blocks_(options.blocks),
        scheduler_(options.schedule, &blocks_),
        inbox_(options.max_waiting, options.max_waiting_tokens),
        salt_(blocks_.hash().Salt("salt ")) {
    report_.duration = workload.duration;
    report_.rate = workload.arrivals.empty() ? load.rate : 0;
    report_.arena_bytes = blocks_.arena().layout().bytes();
    for (const SessionClass& each : workload.classes) report_.classes.emplace_back().name = each.name;
  }

  // Runs until `end`; may be called again with a later one.
  void RunUntil(double end);
  SimulationReport Report();
  int64_t sessions_started() const { return sessions_; }

 private:
  struct StepInFlight {
    uint64_t step = 0;
    std::vector<PlannedSequence> planned;
    double done = 0, seconds = 0;
  };
  struct LiveTurn {
    std::shared_ptr<Session> session;
    double arrived = 0, started = -1, first_token = -1, last_token = 0, stall = 0;
  };

  void Receive();
  void Submit(const Turn& turn);
  bool Launch();
  void CommitOldest();
  void CommitSequence(const StepInFlight& step, const PlannedSequence& planned);
  void ObserveToken(LiveTurn& turn);
  void Finish(Sequence& sequence, FinishReason reason);
  void NoteMemory();
  void Sample();

  const SimulatorOptions& options_;
  const WorkModel& work_;
  Load load_;
  Arrivals arrivals_;
  BlockManager blocks_;  // outlives the sequences below
  Scheduler scheduler_;
  Inbox inbox_;
  CacheSalt salt_;
  std::unordered_map<int64_t, LiveTurn> live_;  // by sequence id
  std::deque<StepInFlight> in_flight_;          // oldest first
  std::vector<Command> commands_;
  double now_ = 0, device_free_ = 0, next_sample_ = 0;
  int64_t next_sequence_ = 0, sessions_ = 0;
  double usable_sum_ = 0;
  int64_t plans_ = 0;
  SimulationReport report_;
};

void Simulator::RunUntil(double end) {
  while (now_ < end) {
    Receive();
    Sample();
    const bool launched = Launch();
    if (in_flight_.size() == Executor::kMaxSteps || (!launched && !in_flight_.empty())) {
      CommitOldest();
    } else if (in_flight_.empty()) {
      now_ = std::max(now_, std::min(arrivals_.NextAt(), end));
    }
  }
}

void Simulator::Receive() {
  for (int32_t i = scheduler_.num_waiting(); load_.saturated && i < kSaturatedQueue; ++i) arrivals_.Draw(now_);
  while (arrivals_.NextAt() <= now_) Submit(arrivals_.Pop());
}

void Simulator::Submit(const Turn& turn) {
  const Session& session = *turn.session;
  ClassReport& of = report_.classes[static_cast<size_t>(session.session_class)];
  ++of.arrived;
  if (session.turn == 0) ++sessions_;
  auto state = std::make_shared<RequestState>();
  state->request.id = absl::StrCat(next_sequence_);
  state->request.max_tokens = session.output();
  absl::Status status = blocks_.CanEverFit(int64_t{session.prompt_tokens()} + session.output() - 1);
  if (status.ok()) {
    state->request.prompt = session.plan.Tokens(session.prompt_tokens(), options_.vocab);
    state->live_choices = 1;
    status = inbox_.Submit(state);
  }
  if (!status.ok()) {
    ++of.refused[absl::IsInvalidArgument(status) ? "never_fits" : "queue_full"];
    report_.refusal = std::string(status.message());
    return;
  }
  inbox_.Take(/*idle=*/false, commands_);
  state->cached = options_.prefix_caching;
  if (state->cached) {
    state->salt = salt_;
    state->page_hashes = blocks_.hash().Pages(salt_, state->request.prompt);
  }
  live_[next_sequence_] = {turn.session, turn.at};
  scheduler_.Add(std::make_shared<Sequence>(next_sequence_++, std::move(state), 0));
}

bool Simulator::Launch() {
  StepPlan plan = scheduler_.Plan();
  for (const Scheduler::SequencePtr& sequence : scheduler_.newly_admitted()) {
    inbox_.Left(sequence->prompt_tokens());
    LiveTurn& turn = live_.at(sequence->id());
    turn.started = now_;
    report_.classes[static_cast<size_t>(turn.session->session_class)].queue.push_back(
        static_cast<float>(now_ - turn.arrived));
  }
  report_.most_running = std::max(report_.most_running, static_cast<int64_t>(scheduler_.running().size()));
  NoteMemory();
  if (plan.empty()) return false;
  StepInFlight step;
  step.step = plan.step;
  step.planned = scheduler_.TakePlanned();
  step.seconds = work_.Seconds(work_.Of(plan), options_.device);
  step.done = device_free_ = std::max(now_, device_free_) + step.seconds;
  for (const PlannedChunk& chunk : plan.chunks) {
    if (chunk.tokens.size() > 1) report_.prompt_tokens += chunk.tokens.size();
  }
  in_flight_.push_back(std::move(step));
  return true;
}

void Simulator::CommitOldest() {
  const StepInFlight step = std::move(in_flight_.front());
  in_flight_.pop_front();
  now_ = step.done;
  ++report_.steps;
  report_.busy += step.seconds;
  report_.longest_step = std::max(report_.longest_step, step.seconds);
  blocks_.CompleteStep(step.step);
  for (const PlannedSequence& planned : step.planned) {
    if (planned.sequence->state() != SequenceState::kFinished) CommitSequence(step, planned);
  }
  if (!options_.check_invariants) return;
  if (const absl::Status status = blocks_.Check(); !status.ok()) {
    std::fprintf(stderr, "KV cache: %s\n", status.ToString().c_str());
    std::abort();
  }
}

void Simulator::CommitSequence(const StepInFlight& step, const PlannedSequence& planned) {
  Sequence& sequence = *planned.sequence;
  if (sequence.kv() != nullptr) sequence.Computed(planned.computed);
  FinishReason finish = FinishReason::kNone;
  for (int32_t row = 0; row < planned.rows.size(); ++row) {
    LiveTurn& turn = live_.at(sequence.id());
    finish = sequence.Accept(step.step, turn.session->plan.Token(sequence.num_tokens(), options_.vocab));
    ObserveToken(turn);
  }
  finish = CommitChunk(sequence, finish, blocks_);
  if (finish != FinishReason::kNone) Finish(sequence, finish);
}

void Simulator::ObserveToken(LiveTurn& turn) {
  ++report_.output_tokens;
  if (turn.first_token >= 0) turn.stall = std::max(turn.stall, now_ - turn.last_token);
  turn.last_token = now_;
  if (turn.first_token >= 0) return;
  turn.first_token = now_;
  ClassReport& of = report_.classes[static_cast<size_t>(turn.session->session_class)];
  of.ttft.push_back(static_cast<float>(now_ - turn.arrived));
  of.prefill.push_back(static_cast<float>(now_ - turn.started));
  if (turn.session->turn == 0) of.first_prefill.push_back(of.prefill.back());
}

void Simulator::Finish(Sequence& sequence, FinishReason reason) {
  const LiveTurn turn = live_.at(sequence.id());
  ClassReport& of = report_.classes[static_cast<size_t>(turn.session->session_class)];
  ++of.finished;
  of.stall.push_back(static_cast<float>(turn.stall));
  of.preempted.push_back(static_cast<float>(sequence.schedule.preempted));
  if (const int32_t tokens = sequence.output_tokens(); tokens > 1) {
    of.tpot.push_back(static_cast<float>((turn.last_token - turn.first_token) / (tokens - 1)));
  }
  live_.erase(sequence.id());
  inbox_.Forget(sequence.request().id);
  EndSequence(sequence, reason, blocks_, scheduler_);
  arrivals_.Continue(now_, turn.session);
}

void Simulator::NoteMemory() {
  const double usable = UsableShare(blocks_);
  report_.least_usable = std::min(report_.least_usable, usable);
  usable_sum_ += usable;
  ++plans_;
  const bool slots_left = static_cast<int32_t>(scheduler_.running().size()) < options_.schedule.max_num_seqs;
  if (!slots_left || scheduler_.num_waiting() == 0 || !scheduler_.spilled().empty()) return;
  report_.memory_refusals += scheduler_.Queue(1).front()->schedule.refused ? 1 : 0;
}

void Simulator::Sample() {
  if (now_ < next_sample_) return;
  SeriesPoint point;
  point.at = now_;
  point.running = static_cast<int64_t>(scheduler_.running().size());
  point.waiting = scheduler_.num_waiting();
  point.spilled = static_cast<int64_t>(scheduler_.spilled().size());
  const Arena& arena = blocks_.arena();
  for (const KvClass kv_class : {KvClass::kGlobal, KvClass::kWindow}) {
    const int64_t stride = arena.layout().of(kv_class).page_stride;
    point.referenced_bytes += arena.counts(kv_class).referenced * stride;
    point.cached_bytes += arena.counts(kv_class).cached * stride;
  }
  report_.series.push_back(point);
  next_sample_ = now_ + report_.duration / kSeriesPoints;
}

SimulationReport Simulator::Report() {
  report_.scheduler = scheduler_.stats();
  report_.prefix = blocks_.prefix_stats();
  report_.spilled_bytes = blocks_.spilled_bytes_total();
  if (plans_ > 0) report_.mean_usable = usable_sum_ / static_cast<double>(plans_);
  return std::move(report_);
}

}  // namespace

double UsableShare(const BlockManager& blocks) {
  const ArenaLayout& layout = blocks.arena().layout();
  const KvRoom room = blocks.room();
  int64_t taken = 0, idle = layout.bytes();
  for (const KvClass kv_class : {KvClass::kGlobal, KvClass::kWindow}) {
    const ArenaClassLayout& of = layout.of(kv_class);
    if (of.pages_per_slab == 0) continue;
    const PageCounts& counts = blocks.arena().counts(kv_class);
    taken += (counts.referenced + counts.spilling + blocks.promised(kv_class)) * of.page_bytes;
    const PageNeed page = kv_class == KvClass::kGlobal ? PageNeed{1, 0} : PageNeed{0, 1};
    idle = std::min(idle, room.Times(page) * of.page_bytes);
  }
  return static_cast<double>(taken + idle) / static_cast<double>(layout.bytes());
}

SimulationReport Simulate(const SimulatorOptions& options, const WorkModel& work, const Workload& workload,
                          const Load& load) {
  Simulator simulator(options, work, workload, load);
  simulator.RunUntil(workload.duration);
  return simulator.Report();
}

double MeasureCapacity(const SimulatorOptions& options, const WorkModel& work, const Workload& workload) {
  Load load;
  load.saturated = true;
  Simulator simulator(options, work, workload, load);
  simulator.RunUntil(kSettle);
  const int64_t before = simulator.sessions_started();
  simulator.RunUntil(kSettle + kMeasure);
  return static_cast<double>(simulator.sessions_started() - before) / kMeasure;
}

}  // namespace hysparse
