#include "server/stream_session.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

#include "server/metrics.h"

namespace hysparse {

// Hands the engine's outputs of one prompt to the session's strand; never blocks the engine.
class StreamSession::Sink : public OutputSink {
 public:
  Sink(std::shared_ptr<StreamSession> session, int32_t prompt) : session_(std::move(session)), prompt_(prompt) {}
  void OnOutput(StepOutput output) override {
    boost::asio::post(session_->strand_, [session = session_, prompt = prompt_, output = std::move(output)]() mutable {
      session->Receive(prompt, std::move(output));
    });
  }

 private:
  const std::shared_ptr<StreamSession> session_;
  const int32_t prompt_;
};

std::shared_ptr<StreamSession> StreamSession::Create(std::shared_ptr<const ServedModel> model, Generation generation,
                                                     std::shared_ptr<GenerationConsumer> consumer,
                                                     boost::asio::thread_pool& text_pool, Metrics* metrics) {
  return std::shared_ptr<StreamSession>(
      new StreamSession(std::move(model), std::move(generation), std::move(consumer), text_pool, metrics));
}

StreamSession::StreamSession(std::shared_ptr<const ServedModel> model, Generation generation,
                             std::shared_ptr<GenerationConsumer> consumer, boost::asio::thread_pool& text_pool,
                             Metrics* metrics)
    : model_(std::move(model)),
      generation_(std::move(generation)),
      consumer_(std::move(consumer)),
      strand_(boost::asio::make_strand(text_pool)),
      metrics_(metrics) {
  const auto stops = std::make_shared<const StopStrings>(generation_.stop);
  for (const GenerateRequest& request : generation_.requests) {
    ids_.push_back(request.id);
    min_tokens_.push_back(request.min_tokens);
    usage_.prompt_tokens += static_cast<int32_t>(request.prompt.size());
    prompts_.emplace_back().scored = !request.prompt_logprobs;
    for (int32_t i = 0; i < request.n; ++i) choices_.emplace_back(*model_, stops);
  }
  running_ = static_cast<int32_t>(choices_.size());
}

absl::Status StreamSession::Start() {
  for (size_t p = 0; p < generation_.requests.size(); ++p) {
    const auto sink = std::make_shared<Sink>(shared_from_this(), static_cast<int32_t>(p));
    const absl::Status status = model_->engine->Submit(std::move(generation_.requests[p]), sink);
    if (status.ok()) continue;
    boost::asio::post(strand_, [self = shared_from_this()] { self->finished_ = true; });
    Cancel();
    return status;
  }
  generation_.requests.clear();
  boost::asio::post(strand_, [self = shared_from_this()] { self->Begin(); });
  if (cancelled_) Cancel();
  return absl::OkStatus();
}

void StreamSession::Cancel() {
  cancelled_ = true;
  for (const std::string& id : ids_) model_->engine->Cancel(id);
}

void StreamSession::Begin() {
  begun_ = true;
  consumer_->OnStart();
  for (auto& [prompt, output] : std::exchange(early_, {})) Receive(prompt, std::move(output));
}

void StreamSession::Receive(int32_t prompt, StepOutput output) {
  if (finished_) return;
  if (!begun_) {
    early_.emplace_back(prompt, std::move(output));
    return;
  }
  if (output.finish == FinishReason::kError) {
    const absl::Status error =
        output.error.ok() ? absl::InternalError("the engine gave up this request") : output.error;
    Cancel();
    return Done(error);
  }
  PromptState& state = prompts_[prompt];
  if (output.choice == 0)
    usage_.cached_tokens += output.reused_tokens - std::exchange(state.reused, output.reused_tokens);
  if (state.scored) return Advance(prompt, std::move(output));
  if (output.choice != 0) {
    state.held_back.push_back(std::move(output));
    return;
  }
  ReceivePromptScores(prompt, output);
  if (!state.scored) return;
  Advance(prompt, std::move(output));
  for (StepOutput& held : std::exchange(state.held_back, {})) {
    if (!finished_) Advance(prompt, std::move(held));
  }
}

void StreamSession::ReceivePromptScores(int32_t prompt, StepOutput& output) {
  PromptState& state = prompts_[prompt];
  std::move(output.prompt.begin(), output.prompt.end(), std::back_inserter(state.scores));
  output.prompt.clear();
  // The prompt's last score comes with or before the first token.
  if (output.tokens.empty() && output.finish == FinishReason::kNone && output.stop_token < 0) return;
  state.scored = true;
  consumer_->OnPrompt(prompt, std::move(state.scores));
}

// Detokenises and matches; returns how many tokens count: none after the one that completed a stop string.
int32_t StreamSession::AppendTokens(int32_t prompt, Choice& choice, std::vector<TokenOutput> tokens,
                                    ChoiceUpdate* update) {
  int32_t counted = 0;
  for (TokenOutput& token : tokens) {
    if (choice.matcher.stopped()) break;
    ++counted;
    ++choice.generated;
    update->ids.push_back(token.token);
    const std::string piece = choice.detokenizer.Append(token.token);
    const size_t end = choice.decoded + piece.size();
    if (generation_.want_logprobs) choice.waiting.push_back({std::move(token), choice.decoded, end});
    choice.decoded = end;
    update->text += choice.generated <= min_tokens_[prompt] ? piece : choice.matcher.Append(piece);
  }
  return counted;
}

// Log probabilities go with their token's text: held back with it, and dropped with a stop string's.
void StreamSession::ReleaseTokens(Choice& choice, bool last, ChoiceUpdate* update) {
  const bool cut = choice.matcher.stopped();
  auto ready = choice.waiting.begin();
  while (ready != choice.waiting.end() &&
         (cut ? ready->offset < choice.released : last || ready->end <= choice.released)) {
    ++ready;
  }
  update->tokens.assign(std::make_move_iterator(choice.waiting.begin()), std::make_move_iterator(ready));
  choice.waiting.erase(choice.waiting.begin(), ready);
}

void StreamSession::Advance(int32_t prompt, StepOutput output) {
  const int32_t index = prompt * generation_.choices_per_prompt + output.choice;
  Choice& choice = choices_[index];
  if (choice.done) return;
  ChoiceUpdate update;
  update.choice = index;
  // The stop token ends the text and is not part of it, whether or not the engine lists it; it was generated, so it
  // counts.
  const bool listed =
      output.stop_token >= 0 && !output.tokens.empty() && output.tokens.back().token == output.stop_token;
  if (listed) output.tokens.pop_back();
  usage_.completion_tokens += AppendTokens(prompt, choice, std::move(output.tokens), &update);
  const bool matched = choice.matcher.stopped();
  if (output.stop_token >= 0 && !matched) ++usage_.completion_tokens;
  update.finish = matched && output.finish != FinishReason::kLength ? FinishReason::kStop : output.finish;
  const bool last = update.finish != FinishReason::kNone;
  if (last && !matched) {
    const std::string rest = choice.detokenizer.Finish();
    choice.decoded += rest.size();
    update.text += choice.matcher.Append(rest);
    update.text += choice.matcher.Finish();
  }
  choice.released += update.text.size();
  ReleaseTokens(choice, last, &update);
  if (matched && output.finish == FinishReason::kNone) model_->engine->Cancel(ids_[prompt], output.choice);
  const FinishReason finish = update.finish;
  if (finish != FinishReason::kCancelled &&
      (last || !update.text.empty() || !update.tokens.empty() || !update.ids.empty())) {
    consumer_->OnUpdate(std::move(update));
  }
  if (last) FinishChoice(choice, finish);
}

void StreamSession::FinishChoice(Choice& choice, FinishReason reason) {
  choice.done = true;
  if (reason == FinishReason::kCancelled) stopped_early_ = true;
  if (metrics_ != nullptr) metrics_->CountFinished(reason);
  if (--running_ > 0) return;
  if (cancelled_) return Done(absl::CancelledError("the client left"));
  Done(stopped_early_ ? absl::UnavailableError("The server is stopping.") : absl::OkStatus());
}

void StreamSession::Done(const absl::Status& status) {
  finished_ = true;
  consumer_->OnDone(status, usage_);
  consumer_.reset();
}

}  // namespace hysparse
