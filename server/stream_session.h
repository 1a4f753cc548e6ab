// StreamSession: one generation on its way from the engine's tokens to a client's text. Engine outputs cross from the
// engine thread to a strand of the text pool, where each choice is detokenised and searched for stop strings; a
// consumer (JSON, SSE or gRPC writer) gets the result in order. A stop match or a departed client cancels in the
// engine.
//
//   auto session = StreamSession::Create(model, std::move(generation), consumer, text_pool, metrics);
//   HYSPARSE_RETURN_IF_ERROR(session->Start());      // queued in the engine, or why not: no consumer call was made
//   session->Cancel();                               // any thread, any time, any number of times
//
// The session keeps itself alive until the consumer's OnDone. Source: architecture, station 9.
#pragma once

#include <atomic>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/request.h"
#include "engine/text/detokenizer.h"
#include "server/generation.h"
#include "server/served_model.h"
#include "server/stop_matcher.h"

namespace hysparse {

class Metrics;

// A generated token whose text has been passed on.
struct TextToken {
  TokenOutput output;
  size_t offset = 0, end = 0;  // bytes of the choice's generated text before it, and with it
};

struct ChoiceUpdate {
  int32_t choice = 0;             // prompt * choices_per_prompt + i
  std::string text;               // whole characters; may be empty
  std::vector<TextToken> tokens;  // with logprobs: those whose text is complete in what was passed on so far
  std::vector<int32_t> ids;       // every token of this step, the stop token aside
  FinishReason finish = FinishReason::kNone;  // kStop or kLength on the choice's last update
};

struct Usage {
  int32_t prompt_tokens = 0;  // counted once per prompt
  int32_t completion_tokens = 0;
  int32_t cached_tokens = 0;  // of the prompts: found in the prefix cache, by the first choice of each
};

// The front end's half. Called on the session's strand, one call at a time.
class GenerationConsumer {
 public:
  virtual ~GenerationConsumer() = default;
  // The first call: everything is queued in the engine. Not made when Start fails.
  virtual void OnStart() = 0;
  // prompt_logprobs: the scores of prompt tokens 1 …, complete, before any update of that prompt's choices.
  virtual void OnPrompt(int32_t prompt, std::vector<TokenOutput> scores) = 0;
  virtual void OnUpdate(ChoiceUpdate update) = 0;
  // The last call, exactly once: OK after every choice's finish, Cancelled when the client left, else the engine's
  // error.
  virtual void OnDone(const absl::Status& status, const Usage& usage) = 0;
};

class StreamSession : public std::enable_shared_from_this<StreamSession> {
 public:
  static std::shared_ptr<StreamSession> Create(std::shared_ptr<const ServedModel> model, Generation generation,
                                               std::shared_ptr<GenerationConsumer> consumer,
                                               boost::asio::thread_pool& text_pool, Metrics* metrics);

  // Queues every prompt in the engine, or none.
  absl::Status Start();
  void Cancel();

 private:
  class Sink;
  struct Choice {
    Choice(const ServedModel& model, const std::shared_ptr<const StopStrings>& stops)
        : detokenizer(model.tokenizer, /*skip_special_tokens=*/true), matcher(stops) {}
    Detokenizer detokenizer;
    StopMatcher matcher;
    int32_t generated = 0;
    size_t decoded = 0, released = 0;  // bytes of text: out of the detokeniser, passed on
    std::vector<TextToken> waiting;    // tokens whose text is held back
    bool done = false;
  };
  struct PromptState {
    std::vector<TokenOutput> scores;
    int32_t reused = 0;                 // tokens found in the prefix cache
    bool scored = true;                 // nothing more of the prompt's scores to come
    std::vector<StepOutput> held_back;  // outputs of other choices that came before the scores
  };

  StreamSession(std::shared_ptr<const ServedModel> model, Generation generation,
                std::shared_ptr<GenerationConsumer> consumer, boost::asio::thread_pool& text_pool, Metrics* metrics);
  void Begin();
  void Receive(int32_t prompt, StepOutput output);
  void ReceivePromptScores(int32_t prompt, StepOutput& output);
  void Advance(int32_t prompt, StepOutput output);
  int32_t AppendTokens(int32_t prompt, Choice& choice, std::vector<TokenOutput> tokens, ChoiceUpdate* update);
  void ReleaseTokens(Choice& choice, bool last, ChoiceUpdate* update);
  void FinishChoice(Choice& choice, FinishReason reason);
  void Done(const absl::Status& status);

  const std::shared_ptr<const ServedModel> model_;
  Generation generation_;  // its requests' prompts are moved out by Start
  std::shared_ptr<GenerationConsumer> consumer_;
  boost::asio::strand<boost::asio::thread_pool::executor_type> strand_;
  Metrics* const metrics_;
  std::vector<std::string> ids_;     // engine ids, per prompt
  std::vector<int32_t> min_tokens_;  // per prompt
  std::vector<Choice> choices_;
  std::vector<PromptState> prompts_;
  Usage usage_;
  int32_t running_ = 0;
  std::vector<std::pair<int32_t, StepOutput>> early_;  // outputs that came before every prompt was queued
  bool begun_ = false, finished_ = false, stopped_early_ = false;
  std::atomic<bool> cancelled_{false};
};

}  // namespace hysparse
