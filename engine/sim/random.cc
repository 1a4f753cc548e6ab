#include <algorithm>
#include <cmath>

#include "engine/sim/workload.h"

namespace hysparse {
namespace {

// SplitMix64 (Steele, Lea and Flood 2014): the finalizer over a Weyl sequence.
constexpr uint64_t kWeyl = 0x9e3779b97f4a7c15;

uint64_t Finalize(uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

}  // namespace

uint64_t Mix(uint64_t seed, uint64_t a, uint64_t b) {
  return Finalize(Finalize(seed + kWeyl * (a + 1)) + kWeyl * (b + 1));
}

uint64_t Random::Next() { return Finalize(state_ += kWeyl); }
double Random::Uniform() { return (static_cast<double>(Next() >> 11) + 1) / 9007199254740992.0; }
double Random::Exponential(double mean) { return -mean * std::log(Uniform()); }
int32_t Random::In(TokenRange range) {
  const auto width = static_cast<uint64_t>(range.most - range.least) + 1;
  return range.least + static_cast<int32_t>(Next() % width);
}

int32_t SessionPlan::Token(int32_t at, int32_t vocab) const {
  const uint64_t bits = ((at < prefix ? prefix_seed : seed) + static_cast<uint64_t>(at)) * kWeyl >> 32;
  return static_cast<int32_t>(bits * static_cast<uint64_t>(vocab) >> 32);
}

std::vector<int32_t> SessionPlan::Tokens(int32_t end, int32_t vocab) const {
  std::vector<int32_t> tokens(static_cast<size_t>(end));
  for (int32_t at = 0; at < end; ++at) tokens[static_cast<size_t>(at)] = Token(at, vocab);
  return tokens;
}

SessionPlan DrawSession(const Workload& workload, int32_t index, int64_t number, uint64_t seed) {
  const SessionClass& of = workload.classes[static_cast<size_t>(index)];
  const auto stream = static_cast<uint64_t>(index);
  Random random(Mix(seed, stream + 1, static_cast<uint64_t>(number)));
  SessionPlan plan;
  plan.seed = random.Next();
  plan.prefix_seed = Mix(seed, ~stream, random.Next() % static_cast<uint64_t>(of.prefixes));
  const int32_t turns = random.In(of.turns);
  plan.turns.reserve(static_cast<size_t>(turns));
  for (int32_t i = 0; i < turns; ++i) {
    const int32_t added = random.In(i == 0 ? of.prompt : of.turn_prompt);
    plan.turns.push_back({added, random.In(of.output), i == 0 ? 0 : random.Exponential(of.think)});
  }
  plan.prefix = std::min(of.prefix, plan.turns.front().added);
  return plan;
}

}  // namespace hysparse
