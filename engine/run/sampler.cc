#include "engine/run/sampler.h"

#include <cassert>
#include <utility>

#include "engine/base/result.h"

namespace hysparse {
namespace {

// Moves a row's range of the plan's array into the staged one. False when it does not fit.
template <typename T>
bool StageRange(const std::vector<T>& from, std::vector<T>& to, int32_t& begin, int32_t& end) {
  const size_t count = static_cast<size_t>(end - begin);
  if (to.size() + count > to.capacity()) return false;
  const auto first = from.begin() + begin;
  begin = static_cast<int32_t>(to.size());
  end = begin + static_cast<int32_t>(count);
  to.insert(to.end(), first, first + static_cast<int64_t>(count));
  return true;
}

}  // namespace

template <typename T>
const T* Sampler::Array<T>::Upload(Backend* backend) {
  if (!host.empty()) backend->Upload(device.get(), host.data(), host.size() * sizeof(T));
  return reinterpret_cast<const T*>(device.get());
}

absl::StatusOr<std::unique_ptr<Sampler>> Sampler::Create(Backend* backend, int32_t vocab, int32_t max_rows) {
  std::unique_ptr<Sampler> sampler(new Sampler(backend, vocab, max_rows));
  absl::Status status;
  const auto make = [&]<typename T>(Array<T>& array, size_t count) {
    array.host.reserve(count);
    absl::StatusOr<std::shared_ptr<std::byte>> device = backend->Allocate(count * sizeof(T));
    status.Update(device.status());
    if (device.ok()) array.device = *std::move(device);
  };
  const size_t rows = static_cast<size_t>(max_rows), ids = static_cast<size_t>(vocab);
  make(sampler->rows_, rows);
  make(sampler->bias_, ids);
  make(sampler->history_, ids);
  make(sampler->banned_, ids);
  make(sampler->token_, rows);
  make(sampler->logprob_, rows);
  make(sampler->top_ids_, rows * kMaxTopLogprobs);
  make(sampler->top_logprobs_, rows * kMaxTopLogprobs);
  HYSPARSE_RETURN_IF_ERROR(status);
  return sampler;
}

void Sampler::Sample(const OpContext& ctx, const float* logits, std::span<const SampleRow> rows, const StepPlan& plan,
                     StepResult& result) {
  while (!rows.empty()) {
    const int32_t staged = Stage(rows, plan);
    assert(staged > 0);
    Run(ctx, logits);
    Fetch(result);
    rows = rows.subspan(static_cast<size_t>(staged));
    logits += int64_t{staged} * vocab_;
  }
}

int32_t Sampler::Stage(std::span<const SampleRow> rows, const StepPlan& plan) {
  rows_.host.clear();
  bias_.host.clear();
  history_.host.clear();
  banned_.host.clear();
  for (SampleRow row : rows) {
    if (!StageRange(plan.bias, bias_.host, row.bias_begin, row.bias_end) ||
        !StageRange(plan.history, history_.host, row.history_begin, row.history_end) ||
        !StageRange(plan.banned, banned_.host, row.banned_begin, row.banned_end)) {
      break;
    }
    rows_.host.push_back(row);
  }
  return static_cast<int32_t>(rows_.host.size());
}

void Sampler::Run(const OpContext& ctx, const float* logits) {
  SampleParams p;
  p.logits = logits;
  p.rows = static_cast<int32_t>(rows_.host.size());
  p.vocab = vocab_;
  p.row = rows_.Upload(backend_);
  p.bias = bias_.Upload(backend_);
  p.history = history_.Upload(backend_);
  p.banned = banned_.Upload(backend_);
  p.token = reinterpret_cast<int32_t*>(token_.device.get());
  p.logprob = reinterpret_cast<float*>(logprob_.device.get());
  p.top_ids = reinterpret_cast<int32_t*>(top_ids_.device.get());
  p.top_logprobs = reinterpret_cast<float*>(top_logprobs_.device.get());
  backend_->Sample(ctx, p);
}

void Sampler::Fetch(StepResult& result) {
  const size_t rows = rows_.host.size();
  bool any_top = false;
  for (const SampleRow& row : rows_.host) any_top |= row.num_top_logprobs > 0;
  const auto download = [this](auto& array, size_t count) {
    array.host.resize(count);
    backend_->Download(array.host.data(), array.device.get(), count * sizeof(array.host[0]));
  };
  download(token_, rows);
  download(logprob_, rows);
  if (any_top) {
    download(top_ids_, rows * kMaxTopLogprobs);
    download(top_logprobs_, rows * kMaxTopLogprobs);
  }
  for (size_t r = 0; r < rows; ++r) {
    const SampleRow& row = rows_.host[r];
    result.token.push_back(token_.host[r]);
    result.logprob.push_back(row.want_logprob ? logprob_.host[r] : 0.0f);
    std::vector<TokenLogprob>& top = result.top_logprobs.emplace_back();
    if (token_.host[r] < 0) continue;  // nothing was written for it
    for (int32_t i = 0; i < row.num_top_logprobs; ++i) {
      const size_t at = r * kMaxTopLogprobs + static_cast<size_t>(i);
      if (top_ids_.host[at] >= 0) top.push_back({top_ids_.host[at], top_logprobs_.host[at]});
    }
  }
}

}  // namespace hysparse
