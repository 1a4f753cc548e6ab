#include "engine/run/rank_thread.h"

#include <cassert>
#include <utility>

namespace hysparse {

RankThread::RankThread(std::unique_ptr<StepRunner> runner) : runner_(std::move(runner)), thread_([this] { Loop(); }) {}

RankThread::~RankThread() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void RankThread::Launch(StepPlan plan) {
  {
    std::lock_guard lock(mutex_);
    assert(under_way_ < kMaxSteps);
    ++under_way_;
    plans_.push_back(std::move(plan));
  }
  changed_.notify_all();
}

absl::StatusOr<StepResult> RankThread::Wait() {
  std::unique_lock lock(mutex_);
  assert(under_way_ > 0);
  changed_.wait(lock, [this] { return !results_.empty(); });
  absl::StatusOr<StepResult> result = std::move(results_.front());
  results_.pop_front();
  --under_way_;
  return result;
}

void RankThread::Loop() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !plans_.empty(); });
    if (stopping_) return;
    StepPlan plan = std::move(plans_.front());
    plans_.pop_front();
    lock.unlock();
    absl::StatusOr<StepResult> result = runner_->Run(plan);
    lock.lock();
    results_.push_back(std::move(result));
    changed_.notify_all();
  }
}

}  // namespace hysparse
