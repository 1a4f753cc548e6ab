// Engine: owns every sequence and runs the step loop on one thread. Everything but Start may be called from any thread.
//
//   Engine engine(options, spec, executor);  engine.Start();
//   auto status = engine.Submit(request, sink);   // answers at once: queued, or why not
//   engine.Cancel(request.id);                    // frees everything within one step
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kv/arena_layout.h"
#include "engine/kv/prefix_stats.h"
#include "engine/kv/room.h"
#include "engine/model/model_spec.h"
#include "engine/quote.h"
#include "engine/request.h"
#include "engine/run/executor.h"

namespace hysparse {

struct EngineOptions {
  int32_t max_num_seqs = 64;                       // sequences with pages on the device
  int32_t max_num_batched_tokens = 2048;           // tokens of one step
  int32_t max_model_len = 0;                       // 0: the model's max_context
  int32_t max_waiting = 1024;                      // queued sequences; beyond: ResourceExhausted (429)
  int64_t max_waiting_tokens = int64_t{16} << 20;  // of their prompts, likewise
  int32_t output_reserve = 512;                    // answer tokens that pages are promised for at admission, at most
  int32_t max_overtakes = 64;                      // schedule/scheduler.h
  bool shrink_budget_with_depth = true;            // schedule/step_cost.h; off for comparisons
  bool prefix_caching = true;                      // across requests; the choices of one request always share
  KvLayout kv_layout;                              // of the pages in both arenas, as the executor lays them out
  ArenaLayout arena;
  ArenaLayout host_arena;  // slabs 0: preempted sequences are computed again
  // After each step, checks that every page is accounted for exactly once, and aborts if not.
#ifdef HYSPARSE_DEBUG
  bool check_invariants = true;
#else
  bool check_invariants = false;
#endif
};

// A request's life, for histograms; read by the observer on the engine thread.
struct RequestTimes {
  double queue_s = 0, prefill_s = 0, decode_s = 0, e2e_s = 0, ttft_s = 0;
  int32_t prompt_tokens = 0, output_tokens = 0;  // output: as sampled, a stop id included
  FinishReason finish = FinishReason::kNone;
};

// Metrics hook. Called on the engine thread: must be cheap and lock-free.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  virtual void OnStep(int32_t tokens, int32_t prompt_tokens, int32_t sequences, double seconds) = 0;
  virtual void OnFirstToken(double ttft_s) = 0;
  virtual void OnInterTokenLatency(double seconds) = 0;
  virtual void OnFinished(const RequestTimes& times) = 0;
};

// Bytes of one KV class, as the pages lie in the arena.
struct KvClassStats {
  int64_t referenced = 0, cached = 0, spilling = 0, free = 0;  // free: in slabs that the class holds
  int64_t used() const { return referenced + spilling; }
};

// A snapshot that never takes the engine's lock.
struct EngineStats {
  int64_t running = 0, waiting = 0, spilled = 0;
  KvClassStats global, window;
  int64_t kv_unassigned = 0, kv_total = 0;  // bytes of the arena
  KvRoom room;                              // what admission could still give
  int64_t host_used = 0, host_total = 0;
  // Tokens of running sequences, and how many of them window layers hold.
  int64_t kv_tokens = 0, kv_window_tokens = 0;
  int64_t preemptions = 0, spills = 0, recomputes = 0, spilled_bytes = 0;
  PrefixStats prefix;
  int64_t steps = 0;              // heartbeat: counts prefill chunks too
  double seconds_since_step = 0;  // of a busy engine; 0 when idle
};

class Engine {
 public:
  Engine(const EngineOptions& options, const ModelSpec& spec, std::unique_ptr<Executor> executor,
         EngineObserver* observer = nullptr);
  ~Engine();  // Stop(), then joins

  void Start();
  // Cancels what runs (each sink gets kCancelled) and joins the thread, after the step under way. Idempotent; not to be
  // called from a sink.
  void Stop();

  // InvalidArgument: out of range or can never fit, with the numbers. ResourceExhausted: the queue is full.
  // AlreadyExists: the id is in use. Unavailable: stopping. max_tokens is cut to what max_model_len leaves.
  absl::Status Submit(GenerateRequest request, std::shared_ptr<OutputSink> sink);
  // Ends every choice (or one) with kCancelled. Unknown ids are ignored.
  void Cancel(const std::string& id, int32_t choice = -1);

  // ResourceExhausted, as Submit would say to the smallest request, when the queue is full: two atomic reads, so that a
  // front end can refuse before it parses and tokenises.
  absl::Status CanQueue() const;

  EngineStats Stats() const;

  // A snapshot of the scheduler for Quote, given to `then` on the engine thread, which must only hand it over: at once
  // by an idle engine; by a busy one at the head of its next step, as it takes submissions, so that nobody waits on a
  // thread for the rest of the step under way. One that is kept up to date would spare that wait and cost each step
  // O(waiting), asked for or not; all who ask during one step share one. Unavailable: stopping; `then` is not called.
  absl::Status AskSnapshot(std::function<void(SnapshotPtr)> then);
  // What Submit would say to a request of this size for one choice of the default priority, and when it would start:
  // the forecast runs here, on the caller's thread. InvalidArgument: a number below 1 or beyond 32 bits.
  absl::StatusOr<QuoteResult> Quote(const ForecastInput& snapshot, int64_t prompt_tokens, int64_t max_tokens) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hysparse
