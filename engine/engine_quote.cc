// The capacity quote. The engine thread only copies out what the forecast needs; the caller's thread does the rest.
#include <limits>

#include "absl/strings/str_cat.h"
#include "engine/base/result.h"
#include "engine/engine_impl.h"
#include "engine/schedule/snapshot.h"

namespace hysparse {
namespace {

absl::Status InRange(const char* name, int64_t value) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  if (value >= 1 && value <= kMost) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, " must be in 1 … ", kMost, ", not ", value));
}

}  // namespace

absl::StatusOr<QuoteResult> Engine::Impl::Quote(const ForecastInput& snapshot, int64_t prompt_tokens,
                                                int64_t max_tokens) const {
  HYSPARSE_RETURN_IF_ERROR(InRange("prompt_tokens", prompt_tokens));
  HYSPARSE_RETURN_IF_ERROR(InRange("max_tokens", max_tokens));
  QuoteResult quote;
  quote.prompt_tokens = prompt_tokens;
  quote.max_tokens = max_tokens;
  const int64_t tokens = prompt_tokens + max_tokens - 1;
  quote.kv_bytes = options_.kv_layout.AllocatedBytes(tokens);
  const PageNeed need = NeedOf(options_.kv_layout, tokens);
  quote.sessions_empty = EmptyRoom(options_.arena).Times(need);
  const auto refuse = [&](std::string reason) {
    quote.verdict = Verdict::kRefuse;
    quote.reason = std::move(reason);
    return quote;
  };
  if (prompt_tokens + max_tokens > max_model_len_) {
    return refuse(absl::StrCat("This model's maximum context length is ", max_model_len_, " tokens, and ",
                               prompt_tokens, " + ", max_tokens, " were asked for."));
  }
  if (const absl::Status fits = blocks_.CanEverFit(tokens); !fits.ok()) return refuse(std::string(fits.message()));

  quote.sessions_now = snapshot.room.Times(need);
  const Forecast forecast =
      MakeForecast(snapshot, static_cast<int32_t>(prompt_tokens), static_cast<int32_t>(max_tokens));
  quote.ahead = forecast.ahead;
  quote.ahead_tokens = forecast.ahead_tokens;
  if (const absl::Status queue = inbox_.CanTake(1, prompt_tokens); !queue.ok()) {
    return refuse(std::string(queue.message()));
  }
  quote.verdict = forecast.at_once ? Verdict::kAdmit : Verdict::kQueue;
  quote.start_s = forecast.start_s;
  quote.first_token_s = forecast.first_token_s;
  return quote;
}

SnapshotPtr Engine::Impl::Snapshot() const {
  auto snapshot = std::make_shared<ForecastInput>(SnapshotOf(scheduler_, blocks_));
  snapshot->rates = step_clock_.Rates();
  snapshot->length_ratio = length_ratio_.value();
  snapshot->next_id = next_sequence_;
  if (!in_flight_.empty()) snapshot->under_way = in_flight_.back().work;
  return snapshot;
}

}  // namespace hysparse
