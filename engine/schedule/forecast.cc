#include "engine/schedule/forecast.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/schedule/forecast_state.h"

namespace hysparse {
namespace {

class Simulation : ForecastState {
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

  void PreemptYoungest();
  void Return();
  void Admit();
  bool AdmitOne(size_t index, const PageNeed& need);
  int64_t StepsUntilChange();
  double Prefill(double cost, double steps, size_t oldest);
  void EndPrefills(size_t oldest);
  void Jump();
  void Settle();

  const ForecastSequence new_;
  const double budget_;
  size_t place_ = 0, next_ = 0;
  std::vector<Refused> refused_;
  double seconds_ = 0, step_seconds_ = 0;
  bool started_ = false;
};

Simulation::Simulation(const ForecastInput& in, const ForecastSequence& request)
    : ForecastState(in), new_(request), budget_(std::max(1, in.options.max_num_batched_tokens)) {
  const auto before = [](const ForecastSequence& a, const ForecastSequence& b) {
    return std::pair(a.queue_key, a.id) < std::pair(b.queue_key, b.id);
  };
  place_ =
      static_cast<size_t>(std::upper_bound(in.waiting.begin(), in.waiting.end(), new_, before) - in.waiting.begin());
}

// Of those that hold all they were promised.
void Simulation::PreemptYoungest() {
  size_t victim = jobs_.size();
  for (size_t i = 0; i < jobs_.size(); ++i) {
    if (jobs_[i].growing && (victim == jobs_.size() || jobs_[i].sequence.id > jobs_[victim].sequence.id)) victim = i;
  }
  Stop(victim);
  Job& job = jobs_[victim];
  if (job.end != kNever) {
    const int64_t steps = std::min(job.decodes_left, step_ - job.start);
    job.decodes_left -= steps;
    job.sequence.kv_tokens += static_cast<int32_t>(steps);
    job.sequence.output_tokens += static_cast<int32_t>(steps);
  }
  job.end = job.promised_until = kNever;
  ++job.sequence.preempted;
  const auto younger = [&](size_t other) { return jobs_[other].sequence.id > job.sequence.id; };
  spilled_.insert(std::find_if(spilled_.begin(), spilled_.end(), younger), victim);
}

void Simulation::Return() {
  while (!spilled_.empty() && running_ < in_.options.max_num_seqs) {
    const size_t at = spilled_.front();
    const PageNeed need = NeedOfReserve(jobs_[at].sequence);
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
      if (At(refused_[i].index).preempted > 0 || refused_[i].overtaken >= in_.options.max_overtakes) return;
      ++refused;
      ++i;
    }
  }
  for (; next_ <= in_.waiting.size() && !full(); ++next_) {
    PageNeed need = NeedOfReserve(At(next_));
    if (in_.layout.global.layers > 0) need.global -= At(next_).kv_tokens / in_.layout.global.page_tokens;
    if (AdmitOne(next_, need)) {
      for (Refused& passed : refused_) ++passed.overtaken;
    } else {
      refused_.push_back({next_, 0, need});
      ++refused;
      if (At(next_).preempted > 0 || in_.options.max_overtakes <= 0) {
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
