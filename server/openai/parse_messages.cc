#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "server/error_map.h"
#include "server/openai/parse_internal.h"

namespace hysparse::openai {
namespace {

constexpr const char* kToolsLater = "is not supported yet: tools come in a later version";

// Template variables a request may set; scalars only.
constexpr const char* kTemplateKwargs[] = {"enable_thinking", "thinking",       "reasoning_effort", "thinking_budget",
                                           "date_string",     "clear_thinking", "preserve_thinking"};

std::string MessageField(size_t index, const char* name) { return absl::StrCat("messages[", index, "].", name); }

// A string, or a list of text parts (joined by newlines, as for every text-only model).
absl::StatusOr<std::string> ReadContent(const Json& content, const std::string& field) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array() || content.empty())
    return BadField(field, "must be a string or a non-empty list of text parts");
  std::string text;
  for (size_t i = 0; i < content.size(); ++i) {
    const Json& part = content[i];
    const std::string name = absl::StrCat(field, "[", i, "]");
    if (!part.is_object() || !part.contains("type") || !part["type"].is_string()) {
      return BadField(name, "must be an object with a type");
    }
    if (part["type"].get<std::string>() != "text") {
      return BadField(name, "is not text: this model takes no images, audio or files");
    }
    if (!part.contains("text") || !part["text"].is_string()) return BadField(name, "has no text");
    if (i > 0) text += '\n';
    text += part["text"].get<std::string>();
  }
  return text;
}

absl::StatusOr<Json> ReadMessage(const Json& message, size_t index) {
  const std::string field = absl::StrCat("messages[", index, "]");
  if (!message.is_object()) return BadField(field, "must be an object");
  FieldReader fields(message, field + ".");
  std::string role;
  if (!fields.Read("role", &role)) {
    fields.Fail("role", "is missing");
    return fields.status();
  }
  if (role == "tool" || role == "function") return BadField(MessageField(index, "role"), kToolsLater);
  if (role == "developer") role = "system";
  if (role != "system" && role != "user" && role != "assistant") {
    return BadField(MessageField(index, "role"), "must be system, developer, user or assistant");
  }
  if (const Json* calls = fields.Find("tool_calls"); calls != nullptr && !(calls->is_array() && calls->empty())) {
    return BadField(MessageField(index, "tool_calls"), kToolsLater);
  }
  fields.Refuse("function_call", kToolsLater);
  Json out = {{"role", role}};
  const Json* content = fields.Find("content");
  if (content == nullptr && role != "assistant") return BadField(MessageField(index, "content"), "is missing");
  absl::StatusOr<std::string> text =
      content == nullptr ? std::string() : ReadContent(*content, MessageField(index, "content"));
  if (!text.ok()) return text.status();
  out["content"] = *std::move(text);
  for (const char* name : {"name", "reasoning_content"}) {
    std::string value;
    if (fields.Read(name, &value)) out[name] = value;
  }
  if (std::string value; fields.Read("reasoning", &value) && !out.contains("reasoning_content")) {
    out["reasoning_content"] = value;
  }
  if (!fields.status().ok()) return fields.status();
  return out;
}

Json ReadTemplateKwargs(FieldReader& fields) {
  Json kwargs = Json::object();
  if (std::string effort; fields.Read("reasoning_effort", &effort)) kwargs["reasoning_effort"] = effort;
  const Json* given = fields.Find("chat_template_kwargs");
  if (given == nullptr) return kwargs;
  if (!given->is_object()) {
    fields.Fail("chat_template_kwargs", "must be an object");
    return kwargs;
  }
  for (const auto& [name, value] : given->items()) {
    bool allowed = false;
    for (std::string_view known : kTemplateKwargs) allowed |= known == name;
    if (!allowed) fields.Fail("chat_template_kwargs", absl::StrCat("must not set ", name));
    if (value.is_structured() || (value.is_string() && value.get_ref<const std::string&>().size() > 256)) {
      fields.Fail("chat_template_kwargs", absl::StrCat("has a value for ", name, " that is no short scalar"));
    }
    kwargs[name] = value;
  }
  return kwargs;
}

}  // namespace

ChatTemplateInput ReadChatPrompt(FieldReader& fields) {
  ChatTemplateInput input;
  input.messages = Json::array();
  const Json* messages = fields.Find("messages");
  if (messages == nullptr || !messages->is_array() || messages->empty()) {
    fields.Fail("messages", "must be a non-empty list");
    return input;
  }
  for (size_t i = 0; i < messages->size(); ++i) {
    absl::StatusOr<Json> message = ReadMessage((*messages)[i], i);
    if (!message.ok()) {
      fields.Fail(message.status());
      return input;
    }
    input.messages.push_back(*std::move(message));
  }
  input.kwargs = ReadTemplateKwargs(fields);
  fields.Read("continue_final_message", &input.continue_final_message);
  input.add_generation_prompt = !input.continue_final_message;
  bool add_generation_prompt = false;
  if (fields.Read("add_generation_prompt", &add_generation_prompt)) {
    if (add_generation_prompt && input.continue_final_message) {
      fields.Fail("add_generation_prompt", "and continue_final_message exclude each other");
    }
    input.add_generation_prompt = add_generation_prompt;
  }
  if (input.continue_final_message && input.messages.back()["role"] != "assistant") {
    fields.Fail("continue_final_message", "needs a last message of the role assistant");
  }
  fields.Refuse("chat_template", "is not accepted: the template is the model's own");
  return input;
}

}  // namespace hysparse::openai
