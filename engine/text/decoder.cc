#include "engine/text/decoder.h"

#include <utility>

#include "engine/base/result.h"
#include "engine/text/decode_steps.h"

namespace hysparse {
namespace {

// Feeds what one stage emits to the next ones; the last one's fragments are the text.
class Chain : public DecodeStage::Sink {
 public:
  Chain(std::vector<std::unique_ptr<DecodeStage>>& stages, size_t next, std::string& text)
      : stages_(stages), next_(next), text_(text) {}

  void Accept(std::string_view fragment, bool ends_token) override {
    if (next_ == stages_.size()) {
      text_ += fragment;
      return;
    }
    Chain rest(stages_, next_ + 1, text_);
    stages_[next_]->Push(fragment, ends_token, rest);
  }

 private:
  std::vector<std::unique_ptr<DecodeStage>>& stages_;
  size_t next_;
  std::string& text_;
};

absl::Status ParseSteps(const JsonView& json, std::vector<std::unique_ptr<const DecodeStep>>& steps) {
  HYSPARSE_ASSIGN_OR_RETURN(const std::string type, json.Type());
  if (type == "Sequence") {
    HYSPARSE_ASSIGN_OR_RETURN(const std::vector<JsonView> parts, json.Array("decoders"));
    for (const JsonView& part : parts) HYSPARSE_RETURN_IF_ERROR(ParseSteps(part, steps));
    return absl::OkStatus();
  }
  bool fused = false;
  for (const auto& step : steps) fused |= step->Fuses();
  HYSPARSE_ASSIGN_OR_RETURN(auto step, ParseDecodeStep(json, fused));
  steps.push_back(std::move(step));
  return absl::OkStatus();
}

}  // namespace

std::string DecodeStream::Append(std::string_view token) {
  std::string text;
  Chain(stages_, 0, text).Accept(token, /*ends_token=*/true);
  return text;
}

std::string DecodeStream::Finish() {
  std::string text;
  for (size_t i = 0; i < stages_.size(); ++i) {
    Chain rest(stages_, i + 1, text);
    stages_[i]->Finish(rest);
  }
  return text;
}

absl::StatusOr<std::unique_ptr<const Decoder>> Decoder::Parse(const JsonView& json) {
  auto decoder = std::make_unique<Decoder>();
  if (json.IsNull()) {
    decoder->steps_.push_back(JoinBySpaces());
  } else {
    HYSPARSE_RETURN_IF_ERROR(ParseSteps(json, decoder->steps_));
  }
  return std::unique_ptr<const Decoder>(std::move(decoder));
}

std::unique_ptr<DecodeStream> Decoder::Start() const {
  std::vector<std::unique_ptr<DecodeStage>> stages;
  stages.reserve(steps_.size());
  for (const auto& step : steps_) stages.push_back(step->Start());
  return std::make_unique<DecodeStream>(std::move(stages));
}

std::string Decoder::TokenBytes(std::string_view token) const {
  std::string bytes(token);
  for (const auto& step : steps_) bytes = step->Bytes(bytes);
  return bytes;
}

}  // namespace hysparse
