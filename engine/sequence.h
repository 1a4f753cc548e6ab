// Sequence: one choice of one request, from the queue to its end. Engine thread only. All transitions are here:
//
//   waiting --Admit--> prefill --Settle, one token pending--> decode --Accept, stop or length--> finished
//   prefill, decode --Preempt--> waiting (all to be computed again)
//      any state --Finish(reason)--> finished, which drops the KV pages
//
// A sequence whose pages are spilled to the host stays in its state; kv()->spilled() says so.
//
// Plans run one step ahead: a sequence may have a token *in flight*, sampled by a step that is planned and not yet
// done. Positions are 0-based; the token sampled from the logits of position p sits at position p + 1.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "engine/base/clock.h"
#include "engine/kv/sequence_kv.h"
#include "engine/request.h"
#include "kernels/params.h"

namespace hysparse {

class Sequence;

// What the choices of one request share.
struct RequestState {
  GenerateRequest request;  // max_tokens already cut to what the context leaves
  std::shared_ptr<OutputSink> sink;
  std::vector<int32_t> stop_ids;  // sorted, unique: the request's and, unless ignore_eos, the model's
  Clock::time_point arrival;
  // Prefix cache: its hashes, made on the submitting thread.
  bool cached = false;
  CacheSalt salt;
  std::vector<uint64_t> page_hashes;
  // Engine thread.
  int32_t live_choices = 0;
  std::vector<std::shared_ptr<Sequence>> followers;  // choices that wait for the first one's prompt pages
};

enum class SequenceState : uint8_t { kWaiting, kPrefill, kDecode, kFinished };

class Sequence {
 public:
  Sequence(int64_t id, std::shared_ptr<RequestState> request, int32_t choice);

  // waiting -> prefill, holding its promise of KV pages.
  void Admit(std::unique_ptr<SequenceKv> kv);
  // Its tokens were planned with kv()->BeginAppend in `step`; `sampled_row` is that plan's row that samples its next
  // token, -1: none.
  void Planned(uint64_t step, int32_t sampled_row);
  // At the head of the next plan. prefill -> decode when one token is pending.
  void Settle();
  // A step that computed it up to `tokens` is done.
  void Computed(int32_t tokens) { computed_tokens_ = tokens; }
  // Takes the token that `step` sampled and says whether it ends the sequence; the caller then calls Finish. A stop id
  // at the last permitted place is a stop: nothing was cut off.
  FinishReason Accept(uint64_t step, int32_t token);
  // prefill or decode -> waiting, without pages.
  void Preempt();
  // any -> finished. Frees the pages.
  void Finish(FinishReason reason);

  int64_t id() const { return id_; }
  int32_t choice() const { return choice_; }
  SequenceState state() const { return state_; }
  FinishReason finish_reason() const { return finish_; }
  const std::shared_ptr<RequestState>& shared() const { return request_; }
  const GenerateRequest& request() const { return request_->request; }
  SequenceKv* kv() { return kv_.get(); }
  const SequenceKv* kv() const { return kv_.get(); }

  int32_t prompt_tokens() const { return static_cast<int32_t>(request().prompt.size()); }
  int32_t output_tokens() const { return static_cast<int32_t>(output_.size()); }
  int32_t num_tokens() const { return prompt_tokens() + output_tokens(); }  // known ones
  int32_t token(int32_t position) const;
  // When a plan is made: the row of the step before that samples the token in flight, -1: none is.
  int32_t row_in_flight() const { return row_in_flight_; }
  // Known tokens and the one in flight.
  int32_t planned_tokens() const { return num_tokens() + (row_in_flight_ >= 0 ? 1 : 0); }
  int32_t planned_kv() const {
    return kv_ ? kv_->num_tokens() : 0;
  }                                                             // tokens that its KV holds once all steps are done
  int32_t computed_tokens() const { return computed_tokens_; }  // by steps that are done
  // Tokens whose K and V no step is planned for yet: the rest of the prompt, or the one last sampled; 0 when the one in
  // flight will be the last. A prompt that is only scored needs no logits of its last token.
  int32_t pending_tokens() const;
  // Tokens that its KV may ever hold: the last one sampled is never written.
  int64_t max_kv_tokens() const;
  bool scores_prompt() const { return request().prompt_logprobs && choice_ == 0; }
  // The first prompt token that no plan scores yet.
  int32_t next_scored() const { return next_scored_; }
  void set_next_scored(int32_t position) { next_scored_ = position; }
  // Stop ids are banned until min_tokens are out.
  bool stops_banned() const { return planned_tokens() - prompt_tokens() < request().min_tokens; }
  bool has_penalties() const;
  // Occurrences per distinct known token for the penalties; empty when no penalty is on.
  const std::vector<TokenCount>& history() const { return history_; }

  // The scheduler's own notes.
  struct Schedule {
    int64_t queue_key = 0;      // place among the waiting
    int32_t overtaken = 0;      // times that another was admitted past it for want of memory
    PageNeed lacked;            // at its last refusal
    bool refused = false;       // `lacked` is set
    bool admitted = false;      // once, ever
    uint64_t busy_step = 0;     // planned, preempted or returned in this step
    int32_t slot = -1;          // while it has pages on the device
    int32_t preempted = 0;      // times
    int32_t reused_tokens = 0;  // at its first admission
  } schedule;
  Clock::time_point first_scheduled, first_token, last_token;  // set by the engine; epoch: not yet

 private:
  void Count(int32_t token, bool in_prompt);

  int64_t id_;
  std::shared_ptr<RequestState> request_;
  int32_t choice_;
  SequenceState state_ = SequenceState::kWaiting;
  FinishReason finish_ = FinishReason::kNone;
  std::unique_ptr<SequenceKv> kv_;
  int32_t computed_tokens_ = 0, row_in_flight_ = -1, next_scored_ = 1;
  uint64_t step_in_flight_ = 0;
  std::vector<int32_t> output_;
  std::vector<TokenCount> history_;
  std::unordered_map<int32_t, int32_t> history_index_;  // token -> entry of history_
};

}  // namespace hysparse
