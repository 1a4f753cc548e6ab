// StepClock: learns how long a step takes from the steps that are done, for the capacity quote's forecast. Knows no
// clock: seconds are given to it. One thread.
//
//   seconds = base + per_cost * prefill cost + per_decode * decodes + per_depth * tokens that the decodes have cached
//
// Recursive least squares in information form: the weighted normal equations, in which old steps fade (half of them
// after about 700), solved when asked for. A step weighs the inverse of its work, so that long prefills do not drown
// the decodes. What the steps cannot tell apart is shared out (a small ridge), depth costs nothing until real depths
// say so, and no coefficient is negative.
#pragma once

#include <array>
#include <cstdint>

#include "engine/schedule/step_cost.h"
#include "engine/schedule/step_plan.h"

namespace hysparse {

// What a step computes, in the units of the fit.
struct StepWork {
  double prefill_cost = 0;  // StepCost's units
  double decodes = 0;       // chunks of one token
  double depth = 0;         // sum of the decodes' positions
};
StepWork MeasureStep(const StepPlan& plan, const StepCost& cost);

struct StepRates {
  double base = 0, per_cost = 0, per_decode = 0, per_depth = 0;  // seconds
  bool known = false;                                            // false: no prefill has been seen, all of it is 0

  double Seconds(const StepWork& work) const {
    return base + per_cost * work.prefill_cost + per_decode * work.decodes + per_depth * work.depth;
  }
};

class StepClock {
 public:
  void Observe(const StepWork& work, double seconds);
  StepRates Rates() const;

 private:
  static constexpr size_t kTerms = 4;
  std::array<std::array<double, kTerms>, kTerms> products_{};  // of the terms, weighted
  std::array<double, kTerms> targets_{};                       // terms times seconds
};

// What part of the tokens that a request may make it makes before it stops: the mean over those that ended by
// themselves, the newest weighing most. Starts at 1, which is what is believed of a server that has seen nothing.
class LengthRatio {
 public:
  void Observe(int32_t made, int32_t asked) {
    if (asked <= 0) return;
    seen_ = seen_ < 64 ? seen_ + 1 : seen_;
    value_ += (static_cast<double>(made) / asked - value_) / seen_;
  }
  double value() const { return value_; }

 private:
  double value_ = 1, seen_ = 4;
};

}  // namespace hysparse
