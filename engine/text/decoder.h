// Decoder: the "decoder" of tokenizer.json as a chain of stages that run incrementally, so that decoding a whole
// sequence and decoding it token by token are the same code. Text flows through the chain as fragments of tokens: a
// stage that fuses passes its text on at once as fragments of one token that never ends before Finish.
//
// Decoder is immutable and shared; a DecodeStream is the state of one sequence, used by one thread at a time.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/text/json_view.h"

namespace hysparse {

// The state of one stage for one sequence. `out` receives fragments by Emit.
class DecodeStage {
 public:
  class Sink {
   public:
    virtual ~Sink() = default;
    // Part of a token, or its end: a token is zero or more fragments followed by `ends_token`.
    virtual void Accept(std::string_view fragment, bool ends_token) = 0;
  };
  virtual ~DecodeStage() = default;
  virtual void Push(std::string_view fragment, bool ends_token, Sink& out) = 0;
  virtual void Finish(Sink&) {}
};

// One component of the chain.
class DecodeStep {
 public:
  virtual ~DecodeStep() = default;
  virtual std::unique_ptr<DecodeStage> Start() const = 0;
  // What the step makes of a token that is neither first nor last, as bytes. For logprobs' `bytes`.
  virtual std::string Bytes(std::string_view token) const { return std::string(token); }
  virtual bool Fuses() const { return false; }
};

class DecodeStream {
 public:
  explicit DecodeStream(std::vector<std::unique_ptr<DecodeStage>> stages) : stages_(std::move(stages)) {}
  // The text that is certain once `token` is known. Always valid UTF-8 when tokens are.
  std::string Append(std::string_view token);
  std::string Finish();

 private:
  std::vector<std::unique_ptr<DecodeStage>> stages_;
};

class Decoder {
 public:
  // `json` is the "decoder" component, null included (tokens are then joined by spaces).
  static absl::StatusOr<std::unique_ptr<const Decoder>> Parse(const JsonView& json);

  std::unique_ptr<DecodeStream> Start() const;
  std::string TokenBytes(std::string_view token) const;

 private:
  std::vector<std::unique_ptr<const DecodeStep>> steps_;
};

}  // namespace hysparse
