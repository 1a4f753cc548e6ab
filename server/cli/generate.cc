#include "server/cli/generate.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <iostream>
#include <string>

#include "absl/strings/str_format.h"
#include "engine/base/result.h"
#include "server/cli/answer.h"
#include "server/cli/load_model.h"
#include "server/cli/logging.h"
#include "server/cli/progress_bar.h"

namespace hysparse {
namespace {

// Set by Ctrl-C: ends the answer that is being written; at the prompt, reading fails and the conversation ends.
std::atomic<bool> interrupted{false};

void CatchInterrupt() {
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = true; };
  sigaction(SIGINT, &action, nullptr);  // no SA_RESTART: a waiting read returns
}

GenerationSpec MakeSpec(const GenerateConfig& config, const ServedModel& model, Prompt prompt) {
  GenerationSpec spec;
  spec.prompts.push_back(std::move(prompt));
  spec.sampling = SamplingDefaults(model.spec);
  if (config.temperature) spec.sampling.temperature = static_cast<float>(*config.temperature);
  if (config.top_p) spec.sampling.top_p = static_cast<float>(*config.top_p);
  if (config.top_k) spec.sampling.top_k = *config.top_k;
  spec.seed = config.seed;
  if (config.max_tokens) spec.max_tokens = config.max_tokens;
  return spec;
}

ChatTemplateInput Conversation(const nlohmann::ordered_json& messages) {
  ChatTemplateInput input;
  input.messages = messages;
  return input;
}

// Writes the answer as it comes, and how fast it came to a terminal's stderr.
absl::StatusOr<AnswerResult> Write(const ServedModel& model, const GenerationSpec& spec) {
  interrupted = false;
  AnswerHooks hooks;
  hooks.text = [](const std::string& piece) {
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    std::fflush(stdout);
  };
  hooks.stop = [] { return interrupted.load(); };
  absl::StatusOr<AnswerResult> answer = RunAnswer(model, spec, hooks);
  std::fputs("\n", stdout);
  std::fflush(stdout);
  if (answer.ok() && isatty(STDERR_FILENO) == 1) {
    const double rate = answer->decode_s > 0 ? (answer->tokens - 1) / answer->decode_s : 0;
    absl::FPrintF(stderr, "[%d + %d tokens; first after %.0f ms, then %.0f tokens/s%s]\n", answer->prompt_tokens,
                  answer->tokens, answer->prefill_s * 1e3, rate,
                  answer->finish == FinishReason::kLength ? "; cut off by the length limit" : "");
  }
  return answer;
}

// Lines from stdin, each a turn, until its end, /exit or Ctrl-C at the prompt.
absl::Status Converse(const GenerateConfig& config, const ServedModel& model, bool chat) {
  const bool terminal = isatty(STDIN_FILENO) == 1;
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  const auto reset = [&] {
    messages.clear();
    if (!config.system.empty()) messages.push_back({{"role", "system"}, {"content", config.system}});
  };
  reset();
  if (terminal) std::fputs("Ctrl-C stops an answer; /clear forgets the conversation; /exit or Ctrl-D ends.\n", stderr);
  while (true) {
    if (terminal) std::fputs("> ", stderr);
    std::string line;
    if (!std::getline(std::cin, line) || line == "/exit") break;
    if (line == "/clear") reset();
    if (line.empty() || line == "/clear") continue;
    if (!chat) {
      const absl::StatusOr<AnswerResult> answer = Write(model, MakeSpec(config, model, line));
      if (!answer.ok()) absl::FPrintF(stderr, "%s\n", std::string(answer.status().message()));
      continue;
    }
    messages.push_back({{"role", "user"}, {"content", line}});
    const absl::StatusOr<AnswerResult> answer = Write(model, MakeSpec(config, model, Conversation(messages)));
    if (answer.ok()) {
      messages.push_back({{"role", "assistant"}, {"content", answer->text}});
    } else {
      absl::FPrintF(stderr, "%s (/clear forgets the conversation)\n", std::string(answer.status().message()));
      messages.erase(messages.size() - 1);
    }
  }
  if (terminal) std::fputs("\n", stderr);
  return absl::OkStatus();
}

}  // namespace

absl::Status RunGenerate(const Config& config) {
  SetUpLogging(config.log_level, config.log_format);
  LoadedModel loaded;
  {
    ProgressBar bar("loading " + config.model);
    LoadHooks hooks;
    hooks.progress = [&](double fraction) { bar.Show(fraction); };
    HYSPARSE_ASSIGN_OR_RETURN(loaded, LoadModel(config, hooks));
  }
  const ServedModel& model = *loaded.model;
  const GenerateConfig& generate = config.generate;
  const bool chat = !generate.raw && model.chat_template != nullptr;
  if (!chat && !generate.system.empty()) {
    return absl::InvalidArgumentError("--system needs a chat template, and this model has none; leave it out");
  }
  CatchInterrupt();
  if (generate.prompt.empty()) return Converse(generate, model, chat);
  Prompt prompt = generate.prompt;
  if (chat) {
    nlohmann::ordered_json messages = nlohmann::ordered_json::array();
    if (!generate.system.empty()) messages.push_back({{"role", "system"}, {"content", generate.system}});
    messages.push_back({{"role", "user"}, {"content", generate.prompt}});
    prompt = Conversation(messages);
  }
  return Write(model, MakeSpec(generate, model, std::move(prompt))).status();
}

}  // namespace hysparse
