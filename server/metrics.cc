#include "server/metrics.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "prometheus/text_serializer.h"

namespace hysparse {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

const std::vector<double> kTtftBuckets = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,  0.25,  0.5,   0.75,
                                          1.0,   2.5,   5.0,  7.5,  10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0};
const std::vector<double> kTokenBuckets = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1,  0.15, 0.2,  0.3,
                                           0.4,   0.5,    0.75,  1.0,  2.5,   5.0,  7.5,   10.0, 20.0, 40.0, 80.0};
const std::vector<double> kRequestBuckets = {0.3,  0.5,  0.8,  1.0,  1.5,   2.0,   2.5,   5.0,   10.0,   15.0,  20.0,
                                             30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0};
const std::vector<double> kIterationBuckets = {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};
const std::vector<double> kStepBuckets = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                          0.25,   0.5,   1,      2.5,   5,    10,    30};

// 1, 2, 5, 10 … up to 2 million: the lengths a request may have.
std::vector<double> LengthBuckets() {
  std::vector<double> bounds;
  for (double decade = 1; decade <= 1e6; decade *= 10) {
    for (double step : {1.0, 2.0, 5.0}) {
      if (decade * step <= 2e6) bounds.push_back(decade * step);
    }
  }
  return bounds;
}

ClientMetric Number(MetricType type, double value, Labels labels = {}) {
  ClientMetric metric;
  metric.label = std::move(labels);
  if (type == MetricType::Counter) metric.counter.value = value;
  if (type == MetricType::Gauge) metric.gauge.value = value;
  return metric;
}

MetricFamily Family(const char* name, const char* help, MetricType type, std::vector<ClientMetric> metrics) {
  return {std::string("hysparse:") + name, help, type, std::move(metrics)};
}

MetricFamily Counter(const char* name, const char* help, uint64_t value) {
  return Family(name, help, MetricType::Counter, {Number(MetricType::Counter, static_cast<double>(value))});
}

MetricFamily Gauge(const char* name, const char* help, double value) {
  return Family(name, help, MetricType::Gauge, {Number(MetricType::Gauge, value)});
}

MetricFamily Histogram(const char* name, const char* help, const AtomicHistogram& histogram) {
  return Family(name, help, MetricType::Histogram, {histogram.Collect()});
}

ClientMetric Labelled(MetricType type, double value, std::initializer_list<ClientMetric::Label> labels) {
  return Number(type, value, Labels(labels));
}

double Ratio(int64_t used, int64_t total) {
  return total == 0 ? 0.0 : static_cast<double>(used) / static_cast<double>(total);
}

}  // namespace

void AtomicHistogram::Observe(double value) {
  const size_t bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  counts_[bucket].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(value, std::memory_order_relaxed);
}

ClientMetric AtomicHistogram::Collect() const {
  ClientMetric metric;
  uint64_t count = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    count += counts_[i].load(std::memory_order_relaxed);
    const double bound = i < bounds_.size() ? bounds_[i] : std::numeric_limits<double>::infinity();
    metric.histogram.bucket.push_back({count, bound});
  }
  metric.histogram.sample_count = count;
  metric.histogram.sample_sum = sum_.load(std::memory_order_relaxed);
  return metric;
}

Metrics::Metrics(const ModelSlot& slot)
    : slot_(slot),
      ttft_(kTtftBuckets),
      inter_token_(kTokenBuckets),
      per_output_token_(kTokenBuckets),
      e2e_(kRequestBuckets),
      queue_(kRequestBuckets),
      prefill_(kRequestBuckets),
      decode_(kRequestBuckets),
      inference_(kRequestBuckets),
      request_prompt_tokens_(LengthBuckets()),
      request_generation_tokens_(LengthBuckets()),
      iteration_tokens_(kIterationBuckets),
      step_prefill_(kStepBuckets),
      step_decode_(kStepBuckets) {}

void Metrics::OnStep(int32_t tokens, int32_t prompt_tokens, int32_t /*sequences*/, double seconds) {
  iteration_tokens_.Observe(tokens);
  prompt_tokens_ += static_cast<uint64_t>(prompt_tokens);
  (prompt_tokens > 0 ? step_prefill_ : step_decode_).Observe(seconds);
}

void Metrics::OnFirstToken(double ttft_s) {
  ttft_.Observe(ttft_s);
  ++generation_tokens_;
}

void Metrics::OnInterTokenLatency(double seconds) {
  inter_token_.Observe(seconds);
  ++generation_tokens_;
}

void Metrics::OnFinished(const RequestTimes& times) {
  e2e_.Observe(times.e2e_s);
  queue_.Observe(times.queue_s);
  prefill_.Observe(times.prefill_s);
  decode_.Observe(times.decode_s);
  inference_.Observe(times.prefill_s + times.decode_s);
  request_prompt_tokens_.Observe(times.prompt_tokens);
  request_generation_tokens_.Observe(times.output_tokens);
  if (times.output_tokens > 1) per_output_token_.Observe(times.decode_s / (times.output_tokens - 1));
}

void Metrics::CountFinished(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      ++finished_stop_;
      break;
    case FinishReason::kLength:
      ++finished_length_;
      break;
    case FinishReason::kCancelled:
      ++finished_abort_;
      break;
    case FinishReason::kError:
      ++finished_error_;
      break;
    case FinishReason::kNone:
      break;
  }
}

void Metrics::CountHttp(int status) { ++http_[std::clamp(status / 100, 0, 5)]; }

namespace {

// By class and state; what no class holds is `unassigned`.
MetricFamily KvBytesFamily(const EngineStats& s) {
  std::vector<ClientMetric> bytes;
  for (const auto& [name, of] : {std::pair{"global", &s.global}, {"window", &s.window}}) {
    for (const auto& [state, value] : {std::pair{"referenced", of->referenced},
                                       {"cached", of->cached},
                                       {"spilling", of->spilling},
                                       {"free", of->free}}) {
      bytes.push_back(Labelled(MetricType::Gauge, static_cast<double>(value), {{"class", name}, {"state", state}}));
    }
  }
  bytes.push_back(
      Labelled(MetricType::Gauge, static_cast<double>(s.kv_unassigned), {{"class", "unassigned"}, {"state", "free"}}));
  return Family("kv_bytes", "Bytes of the KV arena by class and state.", MetricType::Gauge, std::move(bytes));
}

// How many more sessions of a context the cache would admit now.
MetricFamily AdmissibleSessions(const ServedModel& model, const EngineStats& s) {
  std::vector<ClientMetric> sessions;
  for (const int32_t context : {8192, 32768, 131072, 1048576}) {
    if (context >= model.max_model_len) continue;
    sessions.push_back(Labelled(MetricType::Gauge, static_cast<double>(s.room.Times(NeedOf(model.kv_layout, context))),
                                {{"context", std::to_string(context)}}));
  }
  sessions.push_back(Labelled(MetricType::Gauge,
                              static_cast<double>(s.room.Times(NeedOf(model.kv_layout, model.max_model_len))),
                              {{"context", std::to_string(model.max_model_len)}}));
  return Family("admissible_sessions", "Sessions of a context that would still fit.", MetricType::Gauge,
                std::move(sessions));
}

// Why a prompt found no more in the cache than it did.
MetricFamily PrefixLookups(const PrefixStats& prefix) {
  std::vector<ClientMetric> lookups;
  for (const auto& [result, count] : {std::pair{"full", prefix.full_hits},
                                      {"cold", prefix.cold_misses},
                                      {"evicted", prefix.evicted_misses},
                                      {"short", prefix.short_prompts},
                                      {"off", prefix.not_cached}}) {
    lookups.push_back(Labelled(MetricType::Counter, static_cast<double>(count), {{"result", result}}));
  }
  return Family(
      "prefix_cache_lookups_total",
      "Admissions by what ended the prefix found: nothing, tokens never seen, an evicted page; or why none was "
      "looked for: under a page, or off.",
      MetricType::Counter, std::move(lookups));
}

}  // namespace

void Metrics::CollectKv(const ServedModel& model, const EngineStats& s, std::vector<MetricFamily>* families) {
  const auto gauge = MetricType::Gauge, counter = MetricType::Counter;
  const int64_t used = s.global.used() + s.window.used();
  const int64_t page = std::max<int64_t>(
      1, model.kv_layout.global.layers > 0 ? model.kv_layout.global.page_bytes() : model.kv_layout.window.page_bytes());
  families->push_back(
      Gauge("kv_cache_usage_perc", "Bytes of the KV arena that sequences hold; 1 is full.", Ratio(used, s.kv_total)));
  families->push_back(Family("cache_config_info", "The KV cache's shape.", gauge,
                             {Labelled(gauge, 1,
                                       {{"block_size", std::to_string(model.kv_layout.global.page_tokens)},
                                        {"num_gpu_blocks", std::to_string(s.kv_total / page)}})}));
  families->push_back(KvBytesFamily(s));
  families->push_back(Family(
      "kv_tokens", "Tokens of running sequences that a class's layers hold.", gauge,
      {Labelled(gauge, static_cast<double>(model.kv_layout.global.layers > 0 ? s.kv_tokens : 0), {{"class", "global"}}),
       Labelled(gauge, static_cast<double>(s.kv_window_tokens), {{"class", "window"}})}));
  const int64_t full = FullAttentionBytes(model.spec, s.kv_tokens, static_cast<int64_t>(SizeOf(model.kv_layout.dtype)));
  families->push_back(Gauge("kv_bytes_full_attention_equivalent",
                            "What running sequences would keep if every layer were a full layer.",
                            static_cast<double>(full)));
  families->push_back(Gauge("kv_residency_ratio", "What they keep over that; 0 when none runs.", Ratio(used, full)));
  families->push_back(AdmissibleSessions(model, s));
  families->push_back(
      Gauge("num_requests_spilled", "Sequences whose KV cache waits in host memory.", static_cast<double>(s.spilled)));
  families->push_back(Family("kv_host_bytes", "Bytes of the host arena by state.", gauge,
                             {Labelled(gauge, static_cast<double>(s.host_used), {{"state", "referenced"}}),
                              Labelled(gauge, static_cast<double>(s.host_total - s.host_used), {{"state", "free"}})}));
  const auto total = [&](const char* name, const char* help, int64_t value) {
    families->push_back(Family(name, help, counter, {Number(counter, static_cast<double>(value))}));
  };
  total("num_preemptions_total", "Sequences preempted.", s.preemptions);
  total("preempt_recomputes_total", "Of these, computed again because the host arena was full.", s.recomputes);
  total("preempt_spill_bytes_total", "Bytes copied to the host arena.", s.spilled_bytes);
  total("prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.", s.prefix.queried_tokens);
  total("prefix_cache_hits_total", "Of these, found.", s.prefix.hit_tokens);
  total("prompt_tokens_cached_total", "Of these, not computed at all.", s.prefix.hit_tokens - s.prefix.rebuilt_tokens);
  total("prefix_cache_rebuilt_total", "Of these, run again for the window layers.", s.prefix.rebuilt_tokens);
  families->push_back(PrefixLookups(s.prefix));
}

void Metrics::CollectGauges(const ServedModel& model, std::vector<MetricFamily>* families) const {
  const EngineStats s = model.engine->Stats();
  const auto gauge = MetricType::Gauge;
  families->push_back(Gauge("num_requests_running", "Sequences in the running batch.", s.running));
  families->push_back(Gauge("num_requests_waiting", "Sequences waiting to be admitted.", s.waiting));
  families->push_back(Family("num_requests_waiting_by_reason", "Waiting sequences by what they wait for.", gauge,
                             {Labelled(gauge, static_cast<double>(s.waiting), {{"reason", "capacity"}})}));
  CollectKv(model, s, families);
  families->push_back(Family("engine_steps_total", "Steps the engine has taken: its heartbeat.", MetricType::Counter,
                             {Number(MetricType::Counter, static_cast<double>(s.steps))}));
}

std::vector<MetricFamily> Metrics::Collect() const {
  const std::shared_ptr<const ServedModel> model = slot_.Get();
  const auto counter = MetricType::Counter;
  const auto count = [](const std::atomic<uint64_t>& value) { return static_cast<double>(value.load()); };
  std::vector<MetricFamily> families;
  if (model != nullptr) CollectGauges(*model, &families);
  families.push_back(Counter("prompt_tokens_total", "Prompt tokens prefilled.", prompt_tokens_));
  families.push_back(Counter("generation_tokens_total", "Tokens generated.", generation_tokens_));
  families.push_back(Family("request_success_total", "Choices that ended, by how.", counter,
                            {Labelled(counter, count(finished_stop_), {{"finished_reason", "stop"}}),
                             Labelled(counter, count(finished_length_), {{"finished_reason", "length"}}),
                             Labelled(counter, count(finished_abort_), {{"finished_reason", "abort"}}),
                             Labelled(counter, count(finished_error_), {{"finished_reason", "error"}})}));
  families.push_back(Counter("unknown_request_fields_total", "Request fields that were ignored.", unknown_fields_));
  std::vector<ClientMetric> http;
  for (size_t i = 1; i < http_.size(); ++i) {
    http.push_back(Labelled(counter, count(http_[i]), {{"status", std::to_string(i) + "xx"}}));
  }
  families.push_back(Family("http_responses_total", "HTTP responses by status class.", counter, std::move(http)));
  families.push_back(Histogram("time_to_first_token_seconds", "From arrival to the first token.", ttft_));
  families.push_back(Histogram("inter_token_latency_seconds", "Between tokens of a sequence.", inter_token_));
  families.push_back(Histogram("request_time_per_output_token_seconds",
                               "A sequence's mean time per token after the first.", per_output_token_));
  families.push_back(Histogram("e2e_request_latency_seconds", "From arrival to the last token.", e2e_));
  families.push_back(Histogram("request_queue_time_seconds", "Waiting for admission.", queue_));
  families.push_back(Histogram("request_prefill_time_seconds", "From admission to the first token.", prefill_));
  families.push_back(Histogram("request_decode_time_seconds", "From the first token to the last.", decode_));
  families.push_back(Histogram("request_inference_time_seconds", "From admission to the last token.", inference_));
  families.push_back(Histogram("request_prompt_tokens", "Prompt tokens of a sequence.", request_prompt_tokens_));
  families.push_back(
      Histogram("request_generation_tokens", "Generated tokens of a sequence.", request_generation_tokens_));
  families.push_back(Histogram("iteration_tokens_total", "Tokens of an engine step.", iteration_tokens_));
  ClientMetric prefill = step_prefill_.Collect(), decode = step_decode_.Collect();
  prefill.label.push_back({"phase", "prefill"});
  decode.label.push_back({"phase", "decode"});
  families.push_back(Family("step_seconds", "Duration of an engine step; one with any prompt token is prefill.",
                            MetricType::Histogram, {prefill, decode}));
  const std::string name = model != nullptr ? model->id() : "";
  for (MetricFamily& family : families) {
    for (ClientMetric& metric : family.metric) metric.label.insert(metric.label.begin(), {"model_name", name});
  }
  return families;
}

std::string Metrics::Scrape() const { return prometheus::TextSerializer().Serialize(Collect()); }

}  // namespace hysparse
