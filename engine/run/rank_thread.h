// RankThread: an Executor for one rank in this process. Runs the StepRunner's steps on a thread of its own, in the
// order launched, so that the engine plans one step while another runs. Launch, Wait and the destructor: engine thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "engine/run/executor.h"

namespace hysparse {

class RankThread : public Executor {
 public:
  explicit RankThread(std::unique_ptr<StepRunner> runner);
  // Waits for the step that is running; launched steps that have not begun are dropped.
  ~RankThread() override;

  void Launch(StepPlan plan) override;
  absl::StatusOr<StepResult> Wait() override;

 private:
  void Loop();

  std::unique_ptr<StepRunner> runner_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<StepPlan> plans_;                      // not begun
  std::deque<absl::StatusOr<StepResult>> results_;  // not waited for
  int under_way_ = 0;                               // launched and not waited for
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace hysparse
