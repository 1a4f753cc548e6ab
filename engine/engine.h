// Engine: owns every sequence and runs the step loop on one thread. Submit, Cancel and Stats may be called from any
// thread.
//
//   Engine engine(options, spec, executor);  engine.Start();
//   auto status = engine.Submit(request, sink);   // answers at once: queued, or why not
//   engine.Cancel(request.id);                    // frees everything within one step
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "engine/model/model_spec.h"
#include "engine/request.h"
#include "engine/run/executor.h"

namespace hysparse {

struct EngineOptions {
  int32_t max_num_seqs = 64;                               // sequences running at once
  int32_t max_num_batched_tokens = 2048;                   // tokens of one step
  int32_t max_model_len = 0;                               // 0: the model's max_context
  int32_t max_waiting = 1024;                              // queued sequences; beyond: ResourceExhausted (429)
  int64_t global_pages = 0, window_pages = 0;              // pages of each KV class in the arena
  int32_t global_page_tokens = 0, window_page_tokens = 0;  // 0: the model's own (MakeKvLayout), as the runner lays out
  // After each step, checks that every page is free or owned exactly once, and aborts if not.
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

// A snapshot that never takes the engine's lock.
struct EngineStats {
  int32_t running = 0, waiting = 0;
  int64_t global_pages_used = 0, global_pages_total = 0, window_pages_used = 0, window_pages_total = 0;
  int64_t kv_tokens = 0;          // tokens of running sequences
  uint64_t steps = 0;             // heartbeat: counts prefill chunks too
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

  EngineStats Stats() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hysparse
