#include "engine/schedule/commit.h"

namespace hysparse {

FinishReason CommitChunk(Sequence& sequence, FinishReason accepted, BlockManager& blocks) {
  if (accepted != FinishReason::kNone) return accepted;
  const bool only_scores = sequence.request().max_tokens == 0;
  if (only_scores && sequence.computed_tokens() >= sequence.prompt_tokens() - 1) return FinishReason::kLength;
  if (sequence.kv() != nullptr) {
    blocks.Commit(*sequence.kv(), sequence.computed_tokens(), [&](int32_t at) { return sequence.token(at); });
  }
  return FinishReason::kNone;
}

void EndSequence(Sequence& sequence, FinishReason reason, BlockManager& blocks, Scheduler& scheduler) {
  if (sequence.kv() != nullptr && reason != FinishReason::kError) {
    blocks.Retire(*sequence.kv(), sequence.computed_tokens(), [&](int32_t at) { return sequence.token(at); });
  }
  sequence.Finish(reason);
  scheduler.Remove(sequence);
}

}  // namespace hysparse
