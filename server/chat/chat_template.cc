#include "server/chat/chat_template.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "engine/base/file.h"
#include "engine/base/result.h"
#include "server/chat/jinja/cat.h"
#include "server/chat/jinja/template.h"
#include "server/chat/jinja/text_ops.h"
#include "server/chat/jinja/unicode.h"

namespace hysparse {
namespace {

using Json = nlohmann::ordered_json;
using jinja::Cat;
using jinja::Text;

absl::Status Invalid(std::string what) { return absl::InvalidArgumentError(std::move(what)); }

absl::Status InFile(const std::string& name, const absl::Status& status) {
  return Invalid(Cat(name, ": ", std::string(status.message())));
}

// Appended to the message that is to be continued; where it comes out is where the prompt ends. It is client text like
// the rest of the message; a message that contains it itself only moves its own end.
constexpr std::string_view kContinueTag = "CONTINUE_FINAL_MESSAGE_TAG ";
constexpr std::string_view kContinueTagStripped = kContinueTag.substr(0, kContinueTag.size() - 1);

std::string Stripped(const std::string& text) {
  return jinja::Strip(Text(text, false), nullptr, jinja::Side::kBoth).str();
}

// Tags the final message's content (or its last text part) and returns what it was.
absl::StatusOr<std::string> TagFinalMessage(Json* messages) {
  if (!messages->is_array() || messages->empty() || !messages->back().is_object()) {
    return Invalid("continue_final_message is set but the conversation is empty");
  }
  Json& message = messages->back();
  Json* content = message.contains("content") ? &message["content"] : nullptr;
  if (content != nullptr && content->is_array()) {
    auto part = std::find_if(content->rbegin(), content->rend(), [](const Json& p) {
      return p.is_object() && p.contains("text") && p["text"].is_string();
    });
    if (part == content->rend()) {
      return Invalid("continue_final_message is set but the final message has no text to continue");
    }
    content = &(*part)["text"];
  }
  if (content == nullptr || !content->is_string()) {
    return Invalid("continue_final_message is set but the final message has no content to continue");
  }
  std::string text = content->get_ref<const std::string&>();
  *content = text + std::string(kContinueTag);
  return text;
}

// The rendered prompt up to where the final message's content ends.
absl::StatusOr<Text> CutAtTag(const Text& prompt, const std::string& final_content) {
  const std::string& s = prompt.str();
  const size_t tag = s.rfind(kContinueTagStripped);
  if (tag == std::string::npos || s.find(Stripped(final_content)) == std::string::npos) {
    return Invalid("continue_final_message is set but the final message does not appear in the rendered prompt");
  }
  if (s.compare(tag, kContinueTag.size(), kContinueTag) == 0) return prompt.Slice(0, tag);
  // The template strips contents, so what stood before the tag has to be stripped in its place.
  return prompt.Slice(0, jinja::RightStripped(std::string_view(s).substr(0, tag)));
}

std::vector<TextSegment> ToSegments(const Text& prompt) {
  std::vector<TextSegment> segments;
  size_t begin = 0;
  for (const Text::Run& run : prompt.runs()) {
    segments.push_back({prompt.str().substr(begin, run.end - begin), run.trusted});
    begin = run.end;
  }
  return segments;
}

class JinjaChatTemplate : public ChatTemplate {
 public:
  JinjaChatTemplate(jinja::Template plain, std::unique_ptr<const jinja::Template> with_tools, Json special_tokens,
                    Now now)
      : plain_(std::move(plain)),
        with_tools_(std::move(with_tools)),
        special_tokens_(std::move(special_tokens)),
        now_(std::move(now)) {}

  absl::StatusOr<std::vector<TextSegment>> Render(const ChatTemplateInput& input) const override {
    if (input.continue_final_message && input.add_generation_prompt) {
      return Invalid("continue_final_message and add_generation_prompt cannot both be set");
    }
    Json untrusted = input.kwargs.is_object() ? input.kwargs : Json::object();
    untrusted["messages"] = input.messages;
    untrusted["tools"] = input.tools;
    if (!untrusted.contains("documents")) untrusted["documents"] = nullptr;
    Json trusted = special_tokens_;
    trusted["add_generation_prompt"] = input.add_generation_prompt;
    std::string final_content;
    if (input.continue_final_message) {
      HYSPARSE_ASSIGN_OR_RETURN(final_content, TagFinalMessage(&untrusted["messages"]));
    }
    const bool tool_use = with_tools_ != nullptr && !input.tools.is_null();
    const jinja::Template& chosen = tool_use ? *with_tools_ : plain_;
    const auto now = now_ ? now_() : std::chrono::system_clock::now();
    HYSPARSE_ASSIGN_OR_RETURN(Text prompt, chosen.Render(trusted, untrusted, now));
    if (input.continue_final_message) {
      HYSPARSE_ASSIGN_OR_RETURN(prompt, CutAtTag(prompt, final_content));
    }
    return ToSegments(prompt);
  }

 private:
  const jinja::Template plain_;
  const std::unique_ptr<const jinja::Template> with_tools_;  // null: the plain one serves
  const Json special_tokens_;
  const Now now_;
};

// What a model's folder says.
struct Sources {
  std::string plain, plain_name;
  std::optional<std::string> tool_use;
  Json special_tokens = Json::object();
};

absl::StatusOr<Json> ReadJson(const std::string& path) {
  HYSPARSE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Invalid(Cat(path, ": not a JSON object"));
  return json;
}

// bos_token, eos_token, … : a string, or an object with the string as `content`.
void AddSpecialTokens(const Json& config, Json* tokens) {
  for (const char* name :
       {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    auto it = config.find(name);
    if (it == config.end()) continue;
    if (it->is_object() && it->contains("content")) it = it->find("content");
    if (it->is_string()) (*tokens)[name] = *it;
  }
}

// chat_template of tokenizer_config.json: a string, or a list of {name, template}.
absl::Status ReadTemplates(const Json& config, const std::string& path, Sources* sources) {
  auto it = config.find("chat_template");
  if (it == config.end() || it->is_null()) return absl::OkStatus();
  sources->plain_name = Cat(path, ": chat_template");
  if (it->is_string()) {
    sources->plain = it->get_ref<const std::string&>();
    return absl::OkStatus();
  }
  bool found = false;
  for (const Json& entry : it->is_array() ? *it : Json::array()) {
    const bool well_formed = entry.is_object() && entry.contains("name") && entry["name"].is_string() &&
                             entry.contains("template") && entry["template"].is_string();
    if (!well_formed) return Invalid(Cat(path, ": chat_template: an entry lacks its name or template"));
    const std::string& source = entry["template"].get_ref<const std::string&>();
    if (entry["name"] == "tool_use") sources->tool_use = source;
    if (entry["name"] != "default") continue;
    sources->plain = source;
    found = true;
  }
  if (!found) return Invalid(Cat(path, ": chat_template is neither a string nor a list with a \"default\""));
  return absl::OkStatus();
}

absl::StatusOr<Sources> ReadSources(const std::string& folder) {
  Sources sources;
  const std::string config_path = folder + "/tokenizer_config.json";
  auto config = ReadJson(config_path);
  if (!config.ok() && !absl::IsNotFound(config.status())) return config.status();
  auto map = ReadJson(folder + "/special_tokens_map.json");
  if (map.ok()) AddSpecialTokens(*map, &sources.special_tokens);
  if (config.ok()) AddSpecialTokens(*config, &sources.special_tokens);
  const std::string file = folder + "/chat_template.jinja";
  auto source = ReadFile(file);
  if (source.ok()) {
    sources.plain = *std::move(source);
    sources.plain_name = file;
  } else if (!absl::IsNotFound(source.status())) {
    return source.status();
  } else if (config.ok()) {
    HYSPARSE_RETURN_IF_ERROR(ReadTemplates(*config, config_path, &sources));
  }
  if (sources.plain_name.empty()) return absl::NotFoundError(Cat(folder, " has no chat template"));
  return sources;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const ChatTemplate>> ChatTemplate::Load(const std::string& folder, Now now) {
  HYSPARSE_ASSIGN_OR_RETURN(Sources sources, ReadSources(folder));
  auto plain = jinja::Template::Parse(sources.plain);
  if (!plain.ok()) return InFile(sources.plain_name, plain.status());
  std::unique_ptr<const jinja::Template> with_tools;
  if (sources.tool_use.has_value()) {
    auto parsed = jinja::Template::Parse(*sources.tool_use);
    if (!parsed.ok()) return InFile(sources.plain_name + " \"tool_use\"", parsed.status());
    with_tools = std::make_unique<const jinja::Template>(*std::move(parsed));
  }
  return std::make_shared<const JinjaChatTemplate>(*std::move(plain), std::move(with_tools),
                                                   std::move(sources.special_tokens), std::move(now));
}

absl::StatusOr<std::shared_ptr<const ChatTemplate>> ChatTemplate::Parse(std::string source, std::string bos,
                                                                        std::string eos, Now now) {
  auto plain = jinja::Template::Parse(source);
  if (!plain.ok()) return InFile("chat template", plain.status());
  Json tokens = Json::object();
  tokens["bos_token"] = std::move(bos);
  tokens["eos_token"] = std::move(eos);
  return std::make_shared<const JinjaChatTemplate>(*std::move(plain), nullptr, std::move(tokens), std::move(now));
}

}  // namespace hysparse
