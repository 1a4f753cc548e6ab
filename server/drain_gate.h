// DrainGate: how a server finishes. Every request that must not be cut holds a Pass; once the gate is closed no new
// pass is given, and WaitEmpty returns when the last one is dropped. Any thread.
//
//   auto pass = gate.Enter();  if (!pass) → 503
//   gate.Close();  bool all_done = gate.WaitEmpty(30s);
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>

namespace hysparse {

class DrainGate {
 public:
  class Pass {
   public:
    Pass(Pass&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
    Pass& operator=(Pass&& other) noexcept {
      std::swap(gate_, other.gate_);
      return *this;
    }
    ~Pass() {
      if (gate_ != nullptr) gate_->Leave();
    }

   private:
    friend class DrainGate;
    explicit Pass(DrainGate* gate) : gate_(gate) {}
    DrainGate* gate_;
  };

  std::optional<Pass> Enter() {
    std::lock_guard lock(mutex_);
    if (closed_) return std::nullopt;
    ++inside_;
    return Pass(this);
  }

  void Close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }

  bool closed() const {
    std::lock_guard lock(mutex_);
    return closed_;
  }

  int inside() const {
    std::lock_guard lock(mutex_);
    return inside_;
  }

  // True when nobody is inside any more, false at the deadline.
  bool WaitEmpty(std::chrono::milliseconds timeout) {
    std::unique_lock lock(mutex_);
    return empty_.wait_for(lock, timeout, [this] { return inside_ == 0; });
  }

 private:
  void Leave() {
    std::lock_guard lock(mutex_);
    if (--inside_ == 0) empty_.notify_all();
  }

  mutable std::mutex mutex_;
  std::condition_variable empty_;
  int inside_ = 0;
  bool closed_ = false;
};

}  // namespace hysparse
