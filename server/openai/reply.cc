#include "server/openai/reply.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "engine/text/detokenizer.h"
#include "server/error_map.h"

namespace hysparse::openai {
namespace {

int64_t Characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

// Byte offsets of a growing text → character offsets. Offsets asked for never go back.
class CharacterOffsets {
 public:
  void Append(std::string_view text) { text_ += text; }
  int64_t At(size_t bytes) {
    const size_t end = std::min(bytes - dropped_, text_.size());
    characters_ += Characters(std::string_view(text_).substr(0, end));
    text_.erase(0, end);
    dropped_ += end;
    return characters_;
  }

 private:
  std::string text_;
  size_t dropped_ = 0;
  int64_t characters_ = 0;
};

// What both kinds of reply do with a choice: its index in the answer, its text with the echo, its log probabilities.
class Reply : public GenerationConsumer {
 public:
  Reply(ReplyPlan plan, std::shared_ptr<HttpExchange> exchange)
      : plan_(std::move(plan)), exchange_(std::move(exchange)), scores_(plan_.prompts.size()) {}

  void OnPrompt(int32_t prompt, std::vector<TokenOutput> scores) override {
    if (static_cast<size_t>(prompt) < scores_.size()) scores_[prompt] = PromptEntries(prompt, std::move(scores));
  }

 protected:
  int32_t PromptOf(int32_t choice) const { return choice / plan_.best_of; }

  // An update as a part of its choice; the first part of a choice brings the echo.
  ReplyChoice Part(ChoiceUpdate update, bool first) {
    const size_t prompt = PromptOf(update.choice);
    if (static_cast<size_t>(update.choice) >= offsets_.size()) offsets_.resize(update.choice + 1);
    ReplyChoice part;
    part.index = update.choice;
    part.finish = update.finish;
    if (plan_.logprobs) part.logprobs.emplace();
    if (first && !plan_.echo.empty()) {
      part.text = plan_.echo[prompt];
      if (plan_.logprobs) part.logprobs->completion = scores_[prompt];
    }
    part.text += update.text;
    if (!plan_.logprobs) return part;
    if (plan_.header.chat) {
      part.logprobs->chat = std::move(update.tokens);
      return part;
    }
    offsets_[update.choice].Append(update.text);
    const int64_t base = Characters(plan_.prompt_text[prompt]);
    for (TextToken& token : update.tokens) {
      part.logprobs->completion.push_back({std::move(token.output), base + offsets_[update.choice].At(token.offset)});
    }
    return part;
  }

  void Record(const Usage& usage) {
    exchange_->record().prompt_tokens = usage.prompt_tokens;
    exchange_->record().completion_tokens = usage.completion_tokens;
  }

  ReplyPlan plan_;
  std::shared_ptr<HttpExchange> exchange_;

 private:
  // The prompt's tokens with their scores; the first has none.
  std::vector<CompletionLogprob> PromptEntries(int32_t prompt, std::vector<TokenOutput> scores) const {
    std::vector<CompletionLogprob> entries;
    Detokenizer detokenizer(plan_.model->tokenizer, /*skip_special_tokens=*/false);
    int64_t offset = 0;
    const std::vector<int32_t>& tokens = plan_.prompts[prompt];
    for (size_t i = 0; i < tokens.size() && i <= scores.size(); ++i) {
      CompletionLogprob entry;
      if (i > 0) entry.output = std::move(scores[i - 1]);
      entry.output.token = tokens[i];
      entry.scored = i > 0;
      entry.text_offset = offset;
      offset += Characters(detokenizer.Append(tokens[i]));
      entries.push_back(std::move(entry));
    }
    return entries;
  }

  std::vector<std::vector<CompletionLogprob>> scores_;  // per prompt
  std::vector<CharacterOffsets> offsets_;               // per choice
};

// Everything at the end, as one JSON object; of best_of sequences the n of highest mean log probability.
class FullReplyConsumer : public Reply {
 public:
  using Reply::Reply;
  void OnStart() override {}

  void OnUpdate(ChoiceUpdate update) override {
    if (static_cast<size_t>(update.choice) >= choices_.size()) choices_.resize(update.choice + 1);
    Collected& choice = choices_[update.choice];
    for (const TextToken& token : update.tokens) choice.logprob_sum += token.output.logprob;
    choice.tokens += update.tokens.size();
    ReplyChoice part = Part(std::move(update), !std::exchange(choice.begun, true));
    choice.reply.index = part.index;
    choice.reply.text += part.text;
    if (part.finish != FinishReason::kNone) choice.reply.finish = part.finish;
    if (!part.logprobs) return;
    if (!choice.reply.logprobs) choice.reply.logprobs.emplace();
    std::move(part.logprobs->chat.begin(), part.logprobs->chat.end(), std::back_inserter(choice.reply.logprobs->chat));
    std::move(part.logprobs->completion.begin(), part.logprobs->completion.end(),
              std::back_inserter(choice.reply.logprobs->completion));
  }

  void OnDone(const absl::Status& status, const Usage& usage) override {
    Record(usage);
    if (status.ok()) {
      exchange_->Respond({200, "application/json", FullReply(plan_.header, Chosen(), usage), {}});
    } else if (!absl::IsCancelled(status)) {
      exchange_->Respond(ErrorResponse(ToApiError(status)));
    }
    exchange_.reset();
  }

 private:
  struct Collected {
    ReplyChoice reply;
    double logprob_sum = 0;
    size_t tokens = 0;
    bool begun = false;
    double mean() const { return tokens == 0 ? 0.0 : logprob_sum / static_cast<double>(tokens); }
  };

  std::vector<ReplyChoice> Chosen() {
    std::vector<ReplyChoice> chosen;
    for (size_t begin = 0; begin < choices_.size(); begin += plan_.best_of) {
      const auto first = choices_.begin() + static_cast<std::ptrdiff_t>(begin);
      if (plan_.best_of > plan_.n) {
        std::stable_sort(first, first + plan_.best_of,
                         [](const Collected& a, const Collected& b) { return a.mean() > b.mean(); });
      }
      for (int32_t i = 0; i < plan_.n; ++i) {
        first[i].reply.index = static_cast<int32_t>(chosen.size());
        chosen.push_back(std::move(first[i].reply));
      }
    }
    return chosen;
  }

  std::vector<Collected> choices_;
};

// Server-sent events as the text is made. Order: the API's, as server/README.md lists it.
class StreamReplyConsumer : public Reply {
 public:
  StreamReplyConsumer(ReplyPlan plan, std::shared_ptr<HttpExchange> exchange, int32_t choices)
      : Reply(std::move(plan), std::move(exchange)), begun_(choices, false) {}

  void OnStart() override { exchange_->BeginStream("text/event-stream; charset=utf-8"); }

  void OnUpdate(ChoiceUpdate update) override {
    std::string events = Opening();
    const int32_t choice = update.choice;
    const FinishReason finish = update.finish;
    const ReplyChoice part = Part(std::move(update), !begun_[choice]);
    begun_[choice] = true;
    const bool empty =
        part.text.empty() && (!part.logprobs || (part.logprobs->chat.empty() && part.logprobs->completion.empty()));
    // A completion's finish reason comes with its last text, a chat's in an event of its own.
    if (!empty || (!plan_.header.chat && finish != FinishReason::kNone)) events += TextEvent(plan_.header, part);
    if (plan_.header.chat && finish != FinishReason::kNone) events += FinishEvent(plan_.header, choice, finish);
    exchange_->Send(std::move(events));
  }

  void OnDone(const absl::Status& status, const Usage& usage) override {
    Record(usage);
    if (status.ok()) {
      std::string events = plan_.header.include_usage ? UsageEvent(plan_.header, usage) : std::string();
      exchange_->Send(events.append(kDoneEvent));
      exchange_->EndStream();
    } else if (!absl::IsCancelled(status)) {
      exchange_->Send(ErrorEvent(ToApiError(status)));
      exchange_->EndStream();
    }
    exchange_.reset();
  }

 private:
  // Chat: every choice opens with its role, in index order, before any of them has text.
  std::string Opening() {
    std::string events;
    if (std::exchange(opened_, true) || !plan_.header.chat) return events;
    for (size_t i = 0; i < begun_.size(); ++i) events += RoleEvent(plan_.header, static_cast<int32_t>(i));
    return events;
  }

  std::vector<bool> begun_;  // per choice: its first part was sent
  bool opened_ = false;
};

}  // namespace

std::shared_ptr<GenerationConsumer> MakeReply(ReplyPlan plan, bool stream, std::shared_ptr<HttpExchange> exchange,
                                              int32_t choices) {
  if (stream) return std::make_shared<StreamReplyConsumer>(std::move(plan), std::move(exchange), choices);
  return std::make_shared<FullReplyConsumer>(std::move(plan), std::move(exchange));
}

}  // namespace hysparse::openai
