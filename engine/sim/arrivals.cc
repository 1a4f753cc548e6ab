#include "engine/sim/arrivals.h"

#include <limits>
#include <utility>

namespace hysparse {

constexpr double kNever = std::numeric_limits<double>::infinity();

Arrivals::Arrivals(const Workload& workload, const Load& load, uint64_t seed)
    : workload_(workload), seed_(seed), classes_(Mix(seed, 0, 1)) {
  for (const SessionClass& each : workload.classes) shares_ += each.share;
  const bool poisson = workload.arrivals.empty() && !load.saturated;
  for (size_t i = 0; i < workload.classes.size(); ++i) {
    Stream stream;
    stream.random = Random(Mix(seed, 0, i + 2));
    const bool wanted = load.only_class < 0 || load.only_class == static_cast<int32_t>(i);
    stream.rate = poisson && wanted ? load.rate * workload.classes[i].share / shares_ : 0;
    stream.next = stream.rate > 0 ? stream.random.Exponential(1 / stream.rate) : kNever;
    streams_.push_back(stream);
  }
  for (const Arrival& arrival : workload.arrivals) {
    if (load.saturated || (load.only_class >= 0 && load.only_class != arrival.session_class)) continue;
    for (int32_t i = 0; i < arrival.count; ++i) Add(arrival.at, arrival.session_class);
  }
  Refill();
}

void Arrivals::Add(double at, int32_t session_class) {
  auto session = std::make_shared<Session>();
  session->session_class = session_class;
  const int64_t number = streams_[static_cast<size_t>(session_class)].sessions++;
  session->plan = DrawSession(workload_, session_class, number, seed_);
  turns_.push({at, order_++, std::move(session)});
}

void Arrivals::Refill() {
  for (size_t i = 0; i < streams_.size(); ++i) {
    Stream& stream = streams_[i];
    while (stream.rate > 0 && stream.next <= (turns_.empty() ? kNever : turns_.top().at)) {
      Add(stream.next, static_cast<int32_t>(i));
      stream.next += stream.random.Exponential(1 / stream.rate);
    }
  }
}

double Arrivals::NextAt() const { return turns_.empty() ? kNever : turns_.top().at; }

Turn Arrivals::Pop() {
  Turn turn = turns_.top();
  turns_.pop();
  Refill();
  return turn;
}

void Arrivals::Continue(double now, std::shared_ptr<Session> session) {
  session->tokens = session->prompt_tokens() + session->output();
  if (++session->turn == static_cast<int32_t>(session->plan.turns.size())) return;
  const double think = session->plan.turns[static_cast<size_t>(session->turn)].think;
  turns_.push({now + think, order_++, std::move(session)});
}

void Arrivals::Draw(double now) {
  double at = classes_.Uniform() * shares_;
  int32_t session_class = 0;
  const auto last = static_cast<int32_t>(workload_.classes.size()) - 1;
  while (session_class < last && at > workload_.classes[static_cast<size_t>(session_class)].share) {
    at -= workload_.classes[static_cast<size_t>(session_class++)].share;
  }
  Add(now, session_class);
}

}  // namespace hysparse
