// What a request to the OpenAI endpoints says, once it is parsed: types checked, ranges not yet. Plain data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "server/generation.h"
#include "server/quote.h"

namespace hysparse::openai {

struct CompletionCall {
  bool chat = false;
  std::string model;  // "": the served one
  GenerationSpec spec;
  bool stream = false, include_usage = false;
  std::vector<std::string> unknown_fields;
};

struct CapacityCall {
  std::string model;
  QuoteSpec spec;
  std::vector<std::string> unknown_fields;
};

struct TokenizeCall {
  std::string model;
  Prompt prompt;
  bool add_special_tokens = true;
  bool return_token_strings = false;
  std::vector<std::string> unknown_fields;
};

struct DetokenizeCall {
  std::string model;
  std::vector<int32_t> tokens;
  std::vector<std::string> unknown_fields;
};

}  // namespace hysparse::openai
