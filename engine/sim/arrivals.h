// Arrivals: the turns that will be asked, in the order of virtual time. Single thread.
#pragma once

#include <cstdint>
#include <memory>
#include <queue>
#include <vector>

#include "engine/sim/workload.h"

namespace hysparse {

// How often sessions come.
struct Load {
  double rate = 0;          // sessions a second over all classes; not used with a workload's own arrivals
  bool saturated = false;   // one comes whenever the queue runs short, for measuring capacity
  int32_t only_class = -1;  // at its own share of the rate; -1: all
};

struct Session {
  int32_t session_class = 0;
  SessionPlan plan;
  int32_t turn = 0, tokens = 0;  // of the conversation so far
  int32_t prompt_tokens() const { return tokens + plan.turns[static_cast<size_t>(turn)].added; }
  int32_t output() const { return plan.turns[static_cast<size_t>(turn)].output; }
};

struct Turn {
  double at = 0;
  int64_t order = 0;  // among those of one instant
  std::shared_ptr<Session> session;
};

class Arrivals {
 public:
  Arrivals(const Workload& workload, const Load& load, uint64_t seed);

  double NextAt() const;  // infinity: none
  Turn Pop();
  // The session's next turn, if it has one, after its think time.
  void Continue(double now, std::shared_ptr<Session> session);
  // A new session now, of a class drawn by share.
  void Draw(double now);

 private:
  struct Later {
    bool operator()(const Turn& a, const Turn& b) const { return a.at != b.at ? a.at > b.at : a.order > b.order; }
  };
  struct Stream {  // of one class
    Random random{0};
    double rate = 0, next = 0;
    int64_t sessions = 0;
  };

  void Add(double at, int32_t session_class);
  void Refill();  // until the next turn is not before the next session of any class

  const Workload& workload_;
  uint64_t seed_;
  Random classes_;
  double shares_ = 0;
  std::vector<Stream> streams_;
  std::priority_queue<Turn, std::vector<Turn>, Later> turns_;
  int64_t order_ = 0;
};

}  // namespace hysparse
