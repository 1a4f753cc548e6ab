#include "engine/schedule/forecast.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <queue>
#include <utility>

namespace hysparse {
namespace {

constexpr double kLeastCost = 1e-6;  // of a prefill: less is rounding
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

// One that runs or is spilled.
struct Job {
  ForecastSequence sequence;
  double cost_left = 0, token_cost = 0;  // of its prefill; of one token of it
  int64_t decodes_left = 0;              // steps it takes part in once its prefill is done
  int64_t start = 0, end = kNever;       // steps: of its first decode; when what it holds can be had
  int64_t promised_until = kNever;       // the step from which it takes more than its promise
  double global = 0, window = 0;         // pages promised
  bool running = false, growing = false, is_new = false;
  uint32_t turn = 0;  // entries of the queues below that name another turn are void
};

struct Event {
  int64_t at = 0;  // a step, or an id
  size_t job = 0;
  uint32_t turn = 0;
  bool operator>(const Event& other) const { return at > other.at; }
};
using Events = std::priority_queue<Event, std::vector<Event>, std::greater<>>;

class Simulation {
 public:
  Simulation(const ForecastInput& in, const ForecastSequence& request);
  Forecast Run();

 private:
  // Waiting ones are looked at in order: first those that were refused before, then from next_ on.
  const ForecastSequence& At(size_t i) const { return i == place_ ? new_ : in_.waiting[i < place_ ? i : i - 1]; }
  struct Refused {
    size_t index = 0;
    int32_t overtaken = 0;
    PageNeed need;
  };

  size_t NewJob(const ForecastSequence& sequence);
  int64_t DecodesLeft(const ForecastSequence& sequence) const;
  PageNeed NeedWith(const ForecastSequence& sequence, int32_t reserve) const;
  KvRoom Room() const;
  bool CanProvide(const PageNeed& need) const { return Room().CanProvide(need); }
  void Claim(Job& job, const PageNeed& need);
  void Begin(size_t at);
  void BeginDecode(size_t at);
  void Stop(size_t at);

  void PreemptYoungest();
  void Return();
  void Admit();
  bool AdmitOne(size_t index, const PageNeed& need);
  int64_t StepsUntilChange();
  double Prefill(double cost, double steps, size_t oldest);
  void EndPrefills(size_t oldest);
  void Jump();
  void Settle();
  // Drops void entries, then the first or null.
  const Event* First(Events& events) {
    while (!events.empty() && events.top().turn != jobs_[events.top().job].turn) events.pop();
    return events.empty() ? nullptr : &events.top();
  }

  const ForecastInput& in_;
  const ForecastSequence new_;
  const double budget_, page_tokens_;
  size_t place_ = 0, next_ = 0;
  std::vector<Refused> refused_;
  std::vector<Job> jobs_;
  std::vector<size_t> free_jobs_, spilled_;  // spilled: oldest first
  std::vector<size_t> prefills_;             // least left first
  Events oldest_, ends_, growth_;            // prefills by id; decodes by end; by promised_until
  double global_spare_ = 0, window_spare_ = 0;
  int64_t step_ = 0, running_ = 0, alongside_ = 0, decodes_ = 0, growing_ = 0;
  double depth_ = 0, seconds_ = 0, step_seconds_ = 0;
  bool started_ = false, done_ = false;
};

Simulation::Simulation(const ForecastInput& in, const ForecastSequence& request)
    : in_(in),
      new_(request),
      budget_(std::max(1, in.options.max_num_batched_tokens)),
      page_tokens_(std::max(1, in.layout.global.page_tokens)),
      global_spare_(static_cast<double>(in.room.global_spare)),
      window_spare_(static_cast<double>(in.room.window_spare)) {
  const auto before = [](const ForecastSequence& a, const ForecastSequence& b) {
    return std::pair(a.queue_key, a.id) < std::pair(b.queue_key, b.id);
  };
  place_ =
      static_cast<size_t>(std::upper_bound(in.waiting.begin(), in.waiting.end(), new_, before) - in.waiting.begin());
  jobs_.reserve(in.running.size() + in.spilled.size() + static_cast<size_t>(in.options.max_num_seqs));
  alongside_ = static_cast<int64_t>(in.running.size());
  for (const ForecastSequence& sequence : in.running) {
    const size_t at = NewJob(sequence);
    jobs_[at].global = static_cast<double>(sequence.pages.global);
    jobs_[at].window = static_cast<double>(sequence.pages.window);
    Begin(at);
  }
  alongside_ = 0;
  for (const ForecastSequence& sequence : in.spilled) spilled_.push_back(NewJob(sequence));
}

size_t Simulation::NewJob(const ForecastSequence& sequence) {
  size_t at = jobs_.size();
  if (free_jobs_.empty()) {
    jobs_.emplace_back();
  } else {
    at = free_jobs_.back();
    free_jobs_.pop_back();
  }
  Job job;
  job.turn = jobs_[at].turn;
  job.sequence = sequence;
  job.cost_left = in_.options.cost.Of(sequence.kv_tokens, sequence.prefill_left);
  job.token_cost = job.cost_left / std::max(1, sequence.prefill_left);
  job.decodes_left = DecodesLeft(sequence);
  jobs_[at] = job;
  return at;
}

int64_t Simulation::DecodesLeft(const ForecastSequence& s) const {
  const double most = s.max_tokens - s.output_tokens;
  const double whole = in_.length_ratio * s.max_tokens - s.output_tokens;
  const double expected = whole > 0 ? whole : in_.length_ratio * most;
  const int64_t tokens = most > 0 ? std::clamp<int64_t>(std::llround(expected), 1, static_cast<int64_t>(most)) : 0;
  return s.prefill_left > 0 ? std::max<int64_t>(0, tokens - 1) : tokens;  // a prefill's last step samples the first
}

// For the tokens that it has and at most `reserve` more.
PageNeed Simulation::NeedWith(const ForecastSequence& s, int32_t reserve) const {
  const int64_t known = int64_t{s.kv_tokens} + s.prefill_left;
  const int64_t most = std::max(known, known - s.output_tokens + s.max_tokens - 1);
  return NeedOf(in_.layout, std::min(most, known + std::max(0, std::min(reserve, s.max_tokens - s.output_tokens))));
}

KvRoom Simulation::Room() const {
  KvRoom room = in_.room;
  room.global_spare = static_cast<int64_t>(std::floor(global_spare_));
  room.window_spare = static_cast<int64_t>(std::floor(window_spare_));
  return room;
}

void Simulation::Claim(Job& job, const PageNeed& need) {
  job.global = static_cast<double>(need.global);
  job.window = static_cast<double>(need.window);
  global_spare_ -= job.global;
  window_spare_ -= job.window;
}

// What it needs is claimed.
void Simulation::Begin(size_t at) {
  ++running_;
  Job& job = jobs_[at];
  job.running = true;
  if (job.cost_left <= kLeastCost) return BeginDecode(at);
  const auto shorter = [&](size_t a, size_t b) { return jobs_[a].cost_left < jobs_[b].cost_left; };
  prefills_.insert(std::upper_bound(prefills_.begin(), prefills_.end(), at, shorter), at);
  oldest_.push({job.sequence.id, at, job.turn});
}

void Simulation::BeginDecode(size_t at) {
  Job& job = jobs_[at];
  job.sequence.kv_tokens += std::exchange(job.sequence.prefill_left, 0);
  job.cost_left = 0;
  if (job.is_new) done_ = true;
  ++job.turn;
  // The last token is known one plan late, unless there was no other work to plan.
  job.start = step_;
  job.end = step_ + job.decodes_left + (std::max(running_, alongside_) > 1 ? 1 : 0);
  ends_.push({job.end, at, job.turn});
  ++decodes_;
  depth_ += job.sequence.kv_tokens;
  const double beyond = job.global * page_tokens_ - job.sequence.kv_tokens;
  if (in_.layout.global.layers > 0 && beyond < static_cast<double>(job.decodes_left)) {
    job.promised_until = step_ + std::max<int64_t>(0, static_cast<int64_t>(beyond));
    growth_.push({job.promised_until, at, job.turn});
  }
}

// It lets go of all that it holds.
void Simulation::Stop(size_t at) {
  Job& job = jobs_[at];
  ++job.turn;
  --running_;
  job.running = false;
  global_spare_ += job.global;
  window_spare_ += job.window;
  if (job.end == kNever) {
    std::erase(prefills_, at);
    return;
  }
  --decodes_;
  depth_ -= static_cast<double>(job.sequence.kv_tokens + step_ - job.start);
  if (!std::exchange(job.growing, false)) return;
  --growing_;
  global_spare_ += static_cast<double>(step_ - job.promised_until) / page_tokens_;
}

void Simulation::PreemptYoungest() {
  size_t victim = jobs_.size();
  for (size_t i = 0; i < jobs_.size(); ++i) {
    if (jobs_[i].running && (victim == jobs_.size() || jobs_[i].sequence.id > jobs_[victim].sequence.id)) victim = i;
  }
  if (victim == jobs_.size()) return;
  Stop(victim);
  Job& job = jobs_[victim];
  if (job.end != kNever) {
    const int64_t steps = std::min(job.decodes_left, step_ - job.start);
    job.decodes_left -= steps;
    job.sequence.kv_tokens += static_cast<int32_t>(steps);
    job.sequence.output_tokens += static_cast<int32_t>(steps);
  }
  job.end = job.promised_until = kNever;
  const auto younger = [&](size_t other) { return jobs_[other].sequence.id > job.sequence.id; };
  spilled_.insert(std::find_if(spilled_.begin(), spilled_.end(), younger), victim);
}

void Simulation::Return() {
  while (!spilled_.empty() && running_ < in_.options.max_num_seqs) {
    const size_t at = spilled_.front();
    const PageNeed need = NeedWith(jobs_[at].sequence, std::max(kReturnReserve, in_.options.output_reserve));
    if (!CanProvide(need)) return;
    spilled_.erase(spilled_.begin());
    Claim(jobs_[at], need);
    Begin(at);
  }
}

void Simulation::Admit() {
  int32_t refused = 0;
  const auto full = [&] { return running_ >= in_.options.max_num_seqs || refused == kMostRefused; };
  if (!spilled_.empty()) return;
  for (size_t i = 0; i < refused_.size();) {
    if (full()) return;
    if (AdmitOne(refused_[i].index, refused_[i].need)) {
      for (size_t passed = 0; passed < i; ++passed) ++refused_[passed].overtaken;
      refused_.erase(refused_.begin() + static_cast<std::ptrdiff_t>(i));
    } else {
      if (refused_[i].overtaken >= in_.options.max_overtakes) return;
      ++refused;
      ++i;
    }
  }
  for (; next_ <= in_.waiting.size() && !full(); ++next_) {
    PageNeed need = NeedWith(At(next_), in_.options.output_reserve);
    if (in_.layout.global.layers > 0) need.global -= At(next_).kv_tokens / in_.layout.global.page_tokens;
    if (AdmitOne(next_, need)) {
      for (Refused& passed : refused_) ++passed.overtaken;
    } else {
      refused_.push_back({next_, 0, need});
      ++refused;
      if (in_.options.max_overtakes <= 0) {
        ++next_;
        return;
      }
    }
  }
}

bool Simulation::AdmitOne(size_t index, const PageNeed& need) {
  if (!CanProvide(need)) return false;
  const size_t at = NewJob(At(index));
  jobs_[at].is_new = index == place_;
  started_ |= index == place_;
  Claim(jobs_[at], need);
  Begin(at);
  return true;
}

// Steps that all do the same: until a prefill or a decode ends or the cache is full; at least one.
int64_t Simulation::StepsUntilChange() {
  double steps = 1e9;
  if (const Event* end = First(ends_)) steps = std::min(steps, static_cast<double>(end->at - step_));
  const double cost = budget_ - static_cast<double>(decodes_);
  if (!prefills_.empty() && cost > 0) {
    const Job &first = jobs_[prefills_.front()], &oldest = jobs_[First(oldest_)->job];
    const double share = prefills_.size() == 1 || &first == &oldest ? cost : cost * (1 - kOldestShare);
    steps = std::min({steps, first.cost_left / share, oldest.cost_left / share});
  }
  if (growing_ > 0) {
    const double a_page = page_tokens_ / static_cast<double>(growing_);  // in steps
    const double sure = std::floor(global_spare_) +
                        static_cast<double>(in_.room.unassigned_slabs) * static_cast<double>(in_.room.global_per_slab);
    if (sure * a_page < steps) steps = std::min(steps, static_cast<double>(Room().Times({1, 0})) * a_page);
  }
  return std::max<int64_t>(1, static_cast<int64_t>(steps));
}

// Shares `cost` as Scheduler::PlanPrefills does. Returns what was used.
double Simulation::Prefill(double cost, double steps, size_t oldest) {
  double left = cost, tokens = cost, reserved = std::min(cost * kOldestShare, jobs_[oldest].cost_left);
  const auto give = [&](size_t at, double most) {
    const double take = std::min(jobs_[at].cost_left, most);
    jobs_[at].cost_left -= take;
    left -= take;
    tokens -= take / jobs_[at].token_cost;
  };
  const double chunk = kLeastChunk * steps;
  const auto least = [&] { return std::max(left, std::min(chunk, tokens) * jobs_[oldest].token_cost); };
  for (const size_t at : prefills_) {
    if (at == oldest) reserved = 0;
    give(at, at == oldest ? least() : left - reserved);
    if (left > reserved) continue;
    if (reserved > 0) give(oldest, least());  // nobody between them has a share
    break;
  }
  return cost - left;
}

// The first of the prefills may be done, and the oldest; only the oldest may have left its place.
void Simulation::EndPrefills(size_t oldest) {
  const auto done = [&](size_t at) { return jobs_[at].cost_left <= kLeastCost; };
  bool oldest_done = false;
  size_t ended = 0;
  for (; ended < prefills_.size() && done(prefills_[ended]); ++ended) {
    oldest_done |= prefills_[ended] == oldest;
    BeginDecode(prefills_[ended]);
  }
  prefills_.erase(prefills_.begin(), prefills_.begin() + static_cast<std::ptrdiff_t>(ended));
  if (oldest_done) return;
  auto place = std::find(prefills_.begin(), prefills_.end(), oldest);
  if (done(oldest)) {
    prefills_.erase(place);
    return BeginDecode(oldest);
  }
  const double left = jobs_[oldest].cost_left;
  for (; place != prefills_.begin() && jobs_[*(place - 1)].cost_left > left; --place) std::swap(*place, *(place - 1));
}

void Simulation::Jump() {
  const int64_t steps = StepsUntilChange();
  const auto count = static_cast<double>(steps);
  const double cost = std::max(0.0, budget_ - static_cast<double>(decodes_)) * count;
  StepWork work;
  work.decodes = static_cast<double>(decodes_);
  work.depth = depth_ + work.decodes * 0.5 * (count - 1);
  step_ += steps;
  depth_ += work.decodes * count;
  global_spare_ -= static_cast<double>(growing_) * count / page_tokens_;
  if (!prefills_.empty() && cost > 0) {
    const size_t oldest = First(oldest_)->job;
    work.prefill_cost = Prefill(cost, count, oldest) / count;
    EndPrefills(oldest);
  }
  step_seconds_ = in_.rates.Seconds(work);
  seconds_ += step_seconds_ * count;
  Settle();
}

// What the steps up to here ended, and who comes in for it.
void Simulation::Settle() {
  for (const Event* growth = First(growth_); growth != nullptr && growth->at <= step_; growth = First(growth_)) {
    Job& job = jobs_[growth->job];
    job.growing = true;
    global_spare_ -= static_cast<double>(step_ - job.promised_until) / page_tokens_;
    ++growing_;
    growth_.pop();
  }
  bool freed = false, preempted = false;
  for (const Event* end = First(ends_); end != nullptr && end->at <= step_; end = First(ends_)) {
    const size_t at = end->job;
    Stop(at);
    free_jobs_.push_back(at);
    freed = true;
  }
  while (growing_ > 0 && running_ > 1 && !CanProvide({1, 0})) {
    PreemptYoungest();
    preempted = true;
  }
  if (preempted) return;
  const bool had_spilled = !spilled_.empty();
  if (had_spilled) Return();
  if (freed || had_spilled) Admit();
}

Forecast Simulation::Run() {
  Forecast forecast;
  forecast.ahead = static_cast<int64_t>(place_);
  for (size_t i = 0; i < place_; ++i) forecast.ahead_tokens += in_.waiting[i].prefill_left;
  Return();
  Admit();
  forecast.at_once = started_;
  if (!in_.rates.known) return forecast;
  const bool busy = in_.under_way.prefill_cost + in_.under_way.decodes > 0;
  const double under_way = busy ? in_.rates.Seconds(in_.under_way) : 0;
  double start = 0;
  int64_t jumps = 8 * static_cast<int64_t>(in_.running.size() + in_.spilled.size() + in_.waiting.size()) + 1000;
  for (; !done_ && running_ > 0 && jumps > 0; --jumps) {
    const bool waited = !started_;
    Jump();
    if (!waited || !started_) continue;
    // Planned while the step before runs, if there is one.
    start = under_way + seconds_ - (running_ > 1 ? step_seconds_ : 0);
  }
  if (!started_) {
    // Too many preemptions to follow one by one: the rest of the queue goes on at the pace of those before.
    start = seconds_ * static_cast<double>(in_.waiting.size() + 1) / static_cast<double>(std::max<size_t>(1, next_));
    seconds_ = std::max(seconds_, start);
  }
  forecast.start_s = start;
  forecast.first_token_s = under_way + seconds_;
  return forecast;
}

}  // namespace

Forecast MakeForecast(const ForecastInput& input, int32_t prompt_tokens, int32_t max_tokens, int32_t priority) {
  ForecastSequence request;
  request.id = input.next_id;
  request.queue_key = QueueKey(input.options, input.next_id, prompt_tokens, priority);
  request.prefill_left = prompt_tokens;
  request.max_tokens = max_tokens;
  return Simulation(input, request).Run();
}

}  // namespace hysparse
