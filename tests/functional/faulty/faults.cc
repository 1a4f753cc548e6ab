#include "tests/functional/faulty/faults.h"

#include <utility>
#include <vector>

#include "tests/functional/faulty/forwarding_backend.h"
#include "tests/functional/faulty/kv_faults.h"
#include "tests/functional/faulty/selection_faults.h"

namespace hysparse::faulty {
namespace {

class NoWindowSink : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  void WindowAttention(const OpContext& ctx, const WindowAttentionParams& p) override {
    WindowAttentionParams wrong = p;
    wrong.sink = nullptr;
    ForwardingBackend::WindowAttention(ctx, wrong);
  }
};

class NoSparseSink : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  void SparseAttention(const OpContext& ctx, const SparseAttentionParams& p) override {
    SparseAttentionParams wrong = p;
    wrong.sink = nullptr;
    ForwardingBackend::SparseAttention(ctx, wrong);
  }
};

// A window of one token less.
class ShortWindow : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  void WindowAttention(const OpContext& ctx, const WindowAttentionParams& p) override {
    WindowAttentionParams wrong = p;
    --wrong.window;
    ForwardingBackend::WindowAttention(ctx, wrong);
  }
};

// The gates of the two branches exchanged.
class SwappedGates : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  void Gate(const OpContext& ctx, const GateParams& p) override {
    GateParams wrong = p;
    if (p.b != nullptr) {
      std::swap(wrong.gate_a, wrong.gate_b);
      std::swap(wrong.gate_a_stride, wrong.gate_b_stride);
    }
    ForwardingBackend::Gate(ctx, wrong);
  }
};

// Rotated as if every prefill chunk but a sequence's first began one token later.
class RopePosition : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  void Rope(const OpContext& ctx, const RopeParams& p) override {
    position_.assign(p.position, p.position + p.num_tokens);
    for (int32_t begin = 0, end = 0; begin < p.num_tokens; begin = end) {
      for (end = begin + 1; end < p.num_tokens && p.position[end] == p.position[end - 1] + 1;) ++end;
      if (p.position[begin] == 0 || end - begin == 1) continue;
      for (int32_t t = begin; t < end; ++t) ++position_[static_cast<size_t>(t)];
    }
    RopeParams wrong = p;
    wrong.position = position_.data();
    ForwardingBackend::Rope(ctx, wrong);
  }

 private:
  std::vector<int32_t> position_;
};

template <typename Fault>
std::unique_ptr<Backend> Make(std::unique_ptr<Backend> inner) {
  return std::make_unique<Fault>(std::move(inner));
}

struct Entry {
  const char* name;
  std::unique_ptr<Backend> (*make)(std::unique_ptr<Backend>);
};

constexpr Entry kFaults[] = {
    {"wrong-group", Make<WrongGroup>},      {"block-off-by-one", Make<BlockOffByOne>},
    {"raw-logits", Make<RawLogits>},        {"one-block-fewer", Make<OneBlockFewer>},
    {"partial-block", Make<PartialBlock>},  {"wrong-kv-group", Make<WrongKvGroup>},
    {"wrong-oracle", Make<WrongOracle>},    {"no-sink-window", Make<NoWindowSink>},
    {"no-sink-sparse", Make<NoSparseSink>}, {"window-127", Make<ShortWindow>},
    {"gate", Make<SwappedGates>},           {"stale-page", Make<StalePage>},
    {"lost-copy", Make<LostCopy>},          {"rope-position", Make<RopePosition>},
};

}  // namespace

std::unique_ptr<Backend> PlantFault(const std::string& name, std::unique_ptr<Backend> inner) {
  for (const Entry& fault : kFaults) {
    if (name == fault.name) return fault.make(std::move(inner));
  }
  return nullptr;
}

std::vector<std::string> FaultNames() {
  std::vector<std::string> names;
  for (const Entry& fault : kFaults) names.emplace_back(fault.name);
  return names;
}

}  // namespace hysparse::faulty
