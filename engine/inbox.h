// Inbox: how other threads reach the engine's. Front ends put submissions and cancellations in, the engine thread takes
// all of them at once at the head of a step, so that nobody ever waits for a step. Bounded: a submission beyond
// `max_waiting` queued sequences or `max_waiting_tokens` of their prompts is turned away here. A capacity quote asks in
// the same way for a snapshot of the scheduler. Any thread; waiting() and Left() take no lock.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/quote.h"
#include "engine/sequence.h"

namespace hysparse {

// A submission; with `request` null a cancellation, or a question when `asked` is set.
struct Command {
  std::shared_ptr<RequestState> request;
  std::string cancel_id;
  int32_t cancel_choice = -1;
  std::function<void(SnapshotPtr)> asked;
};

class Inbox {
 public:
  Inbox(int32_t max_waiting, int64_t max_waiting_tokens)
      : max_waiting_(max_waiting), max_waiting_tokens_(max_waiting_tokens) {}

  absl::Status Submit(std::shared_ptr<RequestState> request) {
    const int32_t n = request->request.n;
    const int64_t tokens = int64_t{n} * static_cast<int64_t>(request->request.prompt.size());
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return absl::UnavailableError("the engine is stopping");
      if (absl::Status room = CanTake(n, tokens); !room.ok()) return room;
      if (!ids_.insert(request->request.id).second) {
        return absl::AlreadyExistsError(absl::StrCat("a request with id ", request->request.id, " is being served"));
      }
      waiting_.fetch_add(n, std::memory_order_relaxed);
      waiting_tokens_.fetch_add(tokens, std::memory_order_relaxed);
      commands_.push_back({std::move(request), {}, -1, {}});
    }
    ready_.notify_one();
    return absl::OkStatus();
  }

  // ResourceExhausted when the queue has no room for `n` sequences with so many prompt tokens in all.
  absl::Status CanTake(int32_t n, int64_t tokens) const {
    const int32_t waiting = waiting_.load(std::memory_order_relaxed);
    if (waiting + n > max_waiting_) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the queue is full: ", waiting, " of ", max_waiting_, " sequences wait and ", n, " more asked"));
    }
    const int64_t queued = waiting_tokens_.load(std::memory_order_relaxed);
    if (waiting > 0 && queued + tokens > max_waiting_tokens_) {
      return absl::ResourceExhaustedError(absl::StrCat("the queue is full: ", queued, " of ", max_waiting_tokens_,
                                                       " prompt tokens wait and ", tokens, " more asked"));
    }
    return absl::OkStatus();
  }

  // Answered on the engine thread at the head of the next step, at once when the engine idles. Unavailable: stopping.
  absl::Status AskSnapshot(std::function<void(SnapshotPtr)> then) {
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return absl::UnavailableError("the engine is stopping");
      commands_.push_back({nullptr, {}, -1, std::move(then)});
    }
    ready_.notify_one();
    return absl::OkStatus();
  }

  void Cancel(const std::string& id, int32_t choice) {
    {
      std::lock_guard lock(mutex_);
      if (!ids_.contains(id)) return;
      commands_.push_back({nullptr, id, choice, {}});
    }
    ready_.notify_one();
  }

  // No submission succeeds from here on.
  void Stop() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    ready_.notify_one();
  }

  // Moves what has arrived into `commands`, sleeping first while `idle` and nothing has. False when stopping.
  bool Take(bool idle, std::vector<Command>& commands) {
    commands.clear();
    std::unique_lock lock(mutex_);
    if (idle) ready_.wait(lock, [this] { return stopping_ || !commands_.empty(); });
    commands.swap(commands_);
    return !stopping_;
  }

  // The request's last choice has ended: its id may be used again.
  void Forget(const std::string& id) {
    std::lock_guard lock(mutex_);
    ids_.erase(id);
  }

  // A sequence with such a prompt left the queue: it runs, or ended in it.
  void Left(int32_t prompt_tokens) {
    waiting_tokens_.fetch_sub(prompt_tokens, std::memory_order_relaxed);
    waiting_.fetch_sub(1, std::memory_order_release);
  }
  int32_t waiting() const { return waiting_.load(std::memory_order_acquire); }

 private:
  const int32_t max_waiting_;
  const int64_t max_waiting_tokens_;
  std::mutex mutex_;
  std::condition_variable ready_;
  bool stopping_ = false;
  std::vector<Command> commands_;
  std::unordered_set<std::string> ids_;     // of live requests
  std::atomic<int32_t> waiting_{0};         // sequences in `commands_` and in the scheduler's queue
  std::atomic<int64_t> waiting_tokens_{0};  // of their prompts
};

}  // namespace hysparse
