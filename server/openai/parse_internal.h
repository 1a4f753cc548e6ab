// Pieces that the endpoints' parsers share; see parse.h.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "server/chat/chat_template.h"
#include "server/openai/field_reader.h"

namespace hysparse::openai {

// messages, chat_template_kwargs, continue_final_message … → the template's input.
ChatTemplateInput ReadChatPrompt(FieldReader& fields);

// A list of token ids; `field` names it in errors.
absl::StatusOr<std::vector<int32_t>> ReadTokenIds(const Json& list, const char* field);

}  // namespace hysparse::openai
