// Sequence: one choice of one request, from the queue to its end. Engine thread only. All transitions are here:
//
//   waiting --Admit--> prefill --Advance, prompt done--> decode --Accept, stop or length--> finished
//      any state --Finish(reason)--> finished, which drops the KV pages
//
// Positions are 0-based; the token sampled from the logits of position p sits at position p + 1.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "engine/base/clock.h"
#include "engine/kv/block_manager.h"
#include "engine/request.h"
#include "kernels/params.h"

namespace hysparse {

// What the choices of one request share.
struct RequestState {
  GenerateRequest request;  // max_tokens already cut to what the context leaves
  std::shared_ptr<OutputSink> sink;
  std::vector<int32_t> stop_ids;  // sorted, unique: the request's and, unless ignore_eos, the model's
  Clock::time_point arrival;
  int32_t live_choices = 0;  // engine thread
};

enum class SequenceState : uint8_t { kWaiting, kPrefill, kDecode, kFinished };

class Sequence {
 public:
  Sequence(int64_t id, std::shared_ptr<RequestState> request, int32_t choice);

  // waiting -> prefill, holding its promise of KV pages.
  void Admit(SequenceKv kv);
  // The step wrote the K and V of the tokens planned with kv()->BeginAppend. prefill -> decode after the last one of
  // the prompt.
  void Advance();
  // Takes a sampled token (state decode) and says whether it ends the sequence; the caller then calls Finish. A stop id
  // at the last permitted place is a stop: nothing was cut off.
  FinishReason Accept(int32_t token);
  // any -> finished. Frees the pages.
  void Finish(FinishReason reason);

  int64_t id() const { return id_; }
  int32_t choice() const { return choice_; }
  SequenceState state() const { return state_; }
  FinishReason finish_reason() const { return finish_; }
  const std::shared_ptr<RequestState>& shared() const { return request_; }
  const GenerateRequest& request() const { return request_->request; }
  SequenceKv* kv() { return kv_ ? &*kv_ : nullptr; }
  const SequenceKv* kv() const { return kv_ ? &*kv_ : nullptr; }

  int32_t prompt_tokens() const { return static_cast<int32_t>(request().prompt.size()); }
  int32_t output_tokens() const { return static_cast<int32_t>(output_.size()); }
  int32_t num_tokens() const { return prompt_tokens() + output_tokens(); }
  int32_t computed_tokens() const { return kv_ ? kv_->num_tokens() : 0; }
  int32_t token(int32_t position) const;
  // Tokens whose K and V are still to be computed: the rest of the prompt, or the one last sampled. A prompt that is
  // only scored needs no logits of its last token.
  int32_t pending_tokens() const;
  // Tokens that its KV may ever hold: the last one sampled is never written.
  int64_t max_kv_tokens() const;
  bool scores_prompt() const { return request().prompt_logprobs && choice_ == 0; }
  // Stop ids are banned until min_tokens are out.
  bool stops_banned() const { return output_tokens() < request().min_tokens; }
  // Occurrences per distinct token for the penalties; empty when no penalty is on.
  const std::vector<TokenCount>& history() const { return history_; }

  Clock::time_point first_scheduled, first_token, last_token;  // set by the engine; epoch: not yet

 private:
  void Count(int32_t token, bool in_prompt);

  int64_t id_;
  std::shared_ptr<RequestState> request_;
  int32_t choice_;
  SequenceState state_ = SequenceState::kWaiting;
  FinishReason finish_ = FinishReason::kNone;
  std::optional<SequenceKv> kv_;
  std::vector<int32_t> output_;
  std::vector<TokenCount> history_;
  std::unordered_map<int32_t, int32_t> history_index_;  // token -> entry of history_
};

}  // namespace hysparse
