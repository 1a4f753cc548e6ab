#include "tests/unit/server/test_model.h"

#include <algorithm>

#include "engine/run/rank_thread.h"
#include "nlohmann/json.hpp"

namespace hysparse {
namespace {

class ScriptedRunner : public StepRunner {
 public:
  explicit ScriptedRunner(std::shared_ptr<Script> script) : script_(std::move(script)) {}

  absl::StatusOr<StepResult> Run(StepPlan& plan) override {
    if (script_->before_step) script_->before_step();
    ++script_->steps;
    if (!script_->fail.ok()) return script_->fail;
    StepResult result;
    for (const PlannedChunk& chunk : plan.chunks) {
      for (int32_t r = chunk.rows.begin; r < chunk.rows.end; ++r) {
        const SampleRow& row = plan.rows[static_cast<size_t>(r)];
        const int32_t token = row.target >= 0 ? row.target : Next(chunk.sequence, row);
        result.token.push_back(token);
        result.logprob.push_back(Logprob(token, row));
        std::vector<TokenLogprob> top;
        for (int32_t i = 0; i < row.num_top_logprobs; ++i) top.push_back({(token + i) % kTestVocab, -0.25f * (i + 1)});
        result.top_logprobs.push_back(std::move(top));
      }
    }
    return result;
  }

 private:
  int32_t Next(int64_t sequence, const SampleRow& row) {
    const std::string& answer = script_->answers[row.choice % script_->answers.size()];
    const size_t said = said_[sequence]++;
    if (said < answer.size()) return static_cast<unsigned char>(answer[said]);
    return script_->endless ? static_cast<unsigned char>(answer[said % answer.size()]) : kImEnd;
  }
  // Choice 1 is the most likely, for best_of.
  static float Logprob(int32_t, const SampleRow& row) { return row.choice == 1 ? -0.125f : -0.25f; }

  const std::shared_ptr<Script> script_;
  std::map<int64_t, size_t> said_;
};

class ChatMlTemplate : public ChatTemplate {
 public:
  absl::StatusOr<std::vector<TextSegment>> Render(const ChatTemplateInput& input) const override {
    std::vector<TextSegment> segments;
    for (const auto& message : input.messages) {
      if (message["content"] == "raise") return absl::InvalidArgumentError("The chat template refused: raise");
      const bool last = &message == &input.messages.back();
      segments.push_back({"<|im_start|>" + message["role"].get<std::string>() + "\n", true});
      segments.push_back({message["content"].get<std::string>(), false});
      if (!(last && input.continue_final_message)) segments.push_back({"<|im_end|>\n", true});
    }
    if (input.add_generation_prompt) segments.push_back({"<|im_start|>assistant\n", true});
    return segments;
  }
};

}  // namespace

std::shared_ptr<const Tokenizer> ByteTokenizer() {
  using nlohmann::json;
  json vocab = json::object();
  int extra = 0;
  const auto utf8 = [](int c) {
    return c < 0x80 ? std::string(1, static_cast<char>(c))
                    : std::string{static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
  };
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte < 127) || (byte >= 161 && byte < 173) || (byte >= 174 && byte < 256);
    vocab[utf8(printable ? byte : 256 + extra++)] = byte;
  }
  json added = json::array();
  int id = kBos;
  for (const char* special : {"<|bos|>", "<|eos|>", "<|im_start|>", "<|im_end|>"}) {
    added.push_back({{"id", id++},
                     {"content", special},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  const json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  const json tokenizer = {{"version", "1.0"},
                          {"added_tokens", added},
                          {"normalizer", nullptr},
                          {"pre_tokenizer", byte_level},
                          {"post_processor", nullptr},
                          {"decoder", byte_level},
                          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", json::array()}}}};
  return Tokenizer::Parse(tokenizer.dump(), "test").value();
}

std::vector<int32_t> ByteIds(const std::string& text) {
  std::vector<int32_t> ids;
  for (char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

std::unique_ptr<ServedModel> MakeTestModel(std::shared_ptr<Script> script, EngineObserver* observer,
                                           int32_t max_model_len) {
  auto model = std::make_unique<ServedModel>();
  model->names = {"org/tiny", "alias"};
  model->created = 1700000000;
  model->spec.vocab = kTestVocab;
  model->spec.hidden = 8;
  model->spec.max_context = max_model_len;
  model->spec.stop_ids = {kImEnd};
  LayerSpec full;
  full.heads = full.kv_heads = 1;
  full.qk_dim = full.v_dim = 4;
  model->spec.layers = {full};
  model->max_model_len = max_model_len;
  static const std::shared_ptr<const Tokenizer> tokenizer = ByteTokenizer();
  model->tokenizer = tokenizer;
  model->chat_template = std::make_shared<ChatMlTemplate>();
  model->kv_layout = MakeKvLayout(model->spec, DType::kF32);
  EngineOptions options;
  options.max_num_seqs = 32;
  options.max_num_batched_tokens = 64;
  options.max_waiting = 64;
  options.kv_layout = model->kv_layout;
  options.arena = MakeArenaLayout(model->kv_layout, 512 * model->kv_layout.global.page_bytes()).value();
  options.check_invariants = true;
  model->engine = std::make_unique<Engine>(
      options, model->spec, std::make_unique<RankThread>(std::make_unique<ScriptedRunner>(std::move(script))),
      observer);
  model->engine->Start();
  return model;
}

}  // namespace hysparse
