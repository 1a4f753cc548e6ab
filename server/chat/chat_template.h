// ChatTemplate: a model's Jinja chat template, run over OpenAI messages. Immutable after Load; any thread may render.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/text/tokenizer.h"
#include "nlohmann/json.hpp"

namespace hysparse {

struct ChatTemplateInput {
  nlohmann::ordered_json messages;  // as the client sent them, normalised: role, content (string), tool_calls, …
  nlohmann::ordered_json tools;     // null or array
  nlohmann::ordered_json kwargs;    // allow-listed chat_template_kwargs; null or object
  bool add_generation_prompt = true;
  bool continue_final_message = false;
};

class ChatTemplate {
 public:
  // What strftime_now asks; empty means the system's clock.
  using Now = std::function<std::chrono::system_clock::time_point()>;

  // FOLDER/chat_template.jinja, else tokenizer_config.json's chat_template (string or list of named; "default").
  // NotFound when the folder has none; InvalidArgument for one that does not parse names the file, the line and what.
  static absl::StatusOr<std::shared_ptr<const ChatTemplate>> Load(const std::string& folder, Now now = nullptr);
  static absl::StatusOr<std::shared_ptr<const ChatTemplate>> Parse(std::string source, std::string bos, std::string eos,
                                                                   Now now = nullptr);
  virtual ~ChatTemplate() = default;

  // The prompt as segments: what came out of a message's strings is untrusted, however it was trimmed, joined or
  // replaced, so that no message content becomes a special token; tools and kwargs are client text too (a role that the
  // protocol knows is not). With continue_final_message (add_generation_prompt must be false) the prompt ends where the
  // final message's content does. InvalidArgument (a 400) when the template raises or exceeds a cap.
  virtual absl::StatusOr<std::vector<TextSegment>> Render(const ChatTemplateInput& input) const = 0;
};

}  // namespace hysparse
