#include "engine/schedule/snapshot.h"

#include <algorithm>
#include <cstdint>
#include <tuple>

#include "engine/kv/sequence_kv.h"

namespace hysparse {
namespace {

ForecastSequence Describe(const Sequence& sequence) {
  ForecastSequence out;
  out.id = sequence.id();
  out.queue_key = sequence.schedule.queue_key;
  out.max_tokens = sequence.request().max_tokens;
  out.preempted = sequence.schedule.preempted;
  const int32_t prompt = sequence.prompt_tokens(), planned = sequence.planned_tokens();
  if (const SequenceKv* kv = sequence.kv()) {
    out.kv_tokens = kv->num_tokens() + kv->appending();
    out.pages = kv->claimed();
  }
  out.output_tokens = planned - prompt;
  const int32_t pending = planned - out.kv_tokens;
  if (out.kv_tokens < prompt || pending > 1) out.prefill_left = pending;
  return out;
}

}  // namespace

ForecastInput SnapshotOf(const Scheduler& scheduler, const BlockManager& blocks) {
  ForecastInput in;
  in.room = blocks.room();
  in.layout = blocks.layout();
  in.options = scheduler.options();
  const int32_t page = in.layout.global.layers > 0 ? in.layout.global.page_tokens : 0;
  const size_t queued = static_cast<size_t>(scheduler.num_waiting());
  in.waiting.reserve(queued);
  const auto add = [&](const Sequence& sequence, std::vector<ForecastSequence>& list) {
    list.push_back(Describe(sequence));
    for (const auto& follower : sequence.shared()->followers) {
      if (follower->state() == SequenceState::kFinished || sequence.state() == SequenceState::kFinished) continue;
      ForecastSequence behind = Describe(*follower);
      const int32_t prompt = behind.prefill_left;
      behind.queue_key = QueueKey(in.options, behind.id, prompt, follower->request().priority);
      if (page > 0) behind.kv_tokens = (prompt - 1) / page * page;
      behind.prefill_left = prompt - behind.kv_tokens;
      in.waiting.push_back(behind);
    }
  };
  for (const Sequence* sequence : scheduler.Queue(scheduler.num_waiting())) add(*sequence, in.waiting);
  for (const auto& sequence : scheduler.running()) add(*sequence, in.running);
  for (const auto& sequence : scheduler.spilled()) add(*sequence, in.spilled);
  if (in.waiting.size() > queued) {
    std::sort(in.waiting.begin(), in.waiting.end(), [](const ForecastSequence& a, const ForecastSequence& b) {
      return std::tie(a.queue_key, a.id) < std::tie(b.queue_key, b.id);
    });
  }
  return in;
}

}  // namespace hysparse
