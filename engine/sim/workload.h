// Workload: who arrives at the simulator and what they ask. A YAML or JSON file, or a preset's name:
//
//   duration: 3600          seconds of virtual time
//   load: 0.6               of the capacity that the simulator measures first (or  rate: sessions a second)
//   classes:
//     - name: chat          a kind of session; arrivals are Poisson
//       share: 0.9          of the sessions that arrive
//       prompt: 2048        tokens of the first turn; this and the next three: a number, or [least, most]
//       output: 256         tokens of an answer
//       turns: [1, 4]       each continues the whole conversation before it
//       turn_prompt: 200    tokens that a later turn adds
//       think: 30           mean seconds from an answer to the next turn
//       prefix: 512         the prompt's first tokens, shared …
//       prefixes: 4         … in so many variants
//   arrivals:               instead of load or rate: when, of which class, how many at once
//     - {at: 0.5, class: chat, count: 3}
//
// Pure; any thread. Every draw is a function of the seed, the class and the session's number in it, so that a class
// meets the same sessions whether others are there or not.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace hysparse {

struct TokenRange {
  int32_t least = 0, most = 0;
};

struct SessionClass {
  std::string name;
  double share = 1;
  TokenRange prompt, output{256, 256}, turns{1, 1}, turn_prompt{200, 200};
  double think = 30;
  int32_t prefix = 0, prefixes = 1;
};

struct Arrival {
  double at = 0;
  int32_t session_class = 0, count = 1;
};

struct Workload {
  double duration = 0;
  double load = 0, rate = 0;  // one of them, or `arrivals`
  std::vector<SessionClass> classes;
  std::vector<Arrival> arrivals;  // by time
};

// What a session will ask.
struct SessionPlan {
  struct Turn {
    int32_t added = 0, output = 0;  // tokens
    double think = 0;               // seconds before it
  };
  std::vector<Turn> turns;
  int32_t prefix = 0;
  uint64_t prefix_seed = 0, seed = 0;  // of its tokens

  // A token of the conversation, answers included, and its first `end`.
  int32_t Token(int32_t at, int32_t vocab) const;
  std::vector<int32_t> Tokens(int32_t end, int32_t vocab) const;
};

// InvalidArgument names the source, the line and what to change. `source` is a preset's name, or a file's path.
absl::StatusOr<Workload> ReadWorkload(const std::string& source);
absl::StatusOr<Workload> ParseWorkload(const std::string& name, const std::string& text);
std::string PresetNames();  // "chat, long, …"

// The `number`-th session of class `index`.
SessionPlan DrawSession(const Workload& workload, int32_t index, int64_t number, uint64_t seed);

// A stream of random numbers, the same on every machine.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next();
  double Uniform();  // in (0, 1]
  double Exponential(double mean);
  int32_t In(TokenRange range);

 private:
  uint64_t state_;
};

// Independent streams of one seed.
uint64_t Mix(uint64_t seed, uint64_t a, uint64_t b = 0);

}  // namespace hysparse
