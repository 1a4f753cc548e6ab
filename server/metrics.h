// Metrics: counters and histograms fed by the engine's thread and the front ends, gauges read from Engine::Stats when
// somebody asks. Everything is an atomic: feeding costs a few nanoseconds, /metrics takes no lock of the engine's.
// Any thread. Names and buckets: vLLM's, with the prefix `hysparse:`; source: the serving design.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "prometheus/metric_family.h"
#include "server/served_model.h"

namespace hysparse {

// A histogram whose Observe is wait-free; a scrape may see an observation's count and not yet its sum.
class AtomicHistogram {
 public:
  explicit AtomicHistogram(std::vector<double> bounds) : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}
  void Observe(double value);
  prometheus::ClientMetric Collect() const;

 private:
  const std::vector<double> bounds_;
  std::vector<std::atomic<uint64_t>> counts_;
  std::atomic<double> sum_{0};
};

class Metrics : public EngineObserver {
 public:
  explicit Metrics(const ModelSlot& slot);  // gauges appear with the model

  void OnStep(int32_t tokens, int32_t prompt_tokens, int32_t sequences, double seconds) override;
  void OnFirstToken(double ttft_s) override;
  void OnInterTokenLatency(double seconds) override;
  void OnFinished(const RequestTimes& times) override;

  void CountFinished(FinishReason reason);  // per choice, as its client saw it: a stop string is `stop`
  void CountHttp(int status);               // per response
  void CountUnknownFields(size_t fields) { unknown_fields_ += fields; }

  std::string Scrape() const;  // Prometheus text format 0.0.4

 private:
  std::vector<prometheus::MetricFamily> Collect() const;
  static void CollectKv(const ServedModel& model, const EngineStats& stats,
                        std::vector<prometheus::MetricFamily>* families);
  void CollectGauges(const ServedModel& model, std::vector<prometheus::MetricFamily>* families) const;

  const ModelSlot& slot_;
  std::atomic<uint64_t> prompt_tokens_{0}, generation_tokens_{0}, unknown_fields_{0};
  std::atomic<uint64_t> finished_stop_{0}, finished_length_{0}, finished_abort_{0}, finished_error_{0};
  std::array<std::atomic<uint64_t>, 6> http_{};  // by status class
  AtomicHistogram ttft_, inter_token_, per_output_token_, e2e_, queue_, prefill_, decode_, inference_;
  AtomicHistogram request_prompt_tokens_, request_generation_tokens_, iteration_tokens_;
  AtomicHistogram step_prefill_, step_decode_;
};

}  // namespace hysparse
