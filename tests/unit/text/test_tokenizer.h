// Small tokenizers for the unit tests, written as JSON.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/text/byte_alphabet.h"
#include "engine/text/tokenizer.h"

namespace hysparse {

// A document whose vocabulary is the 256 byte characters (id == byte) and then one token per merge, "a b" each.
inline nlohmann::json ByteLevelDocument(const std::vector<std::string>& merges = {}) {
  nlohmann::json vocabulary = nlohmann::json::object();
  for (int byte = 0; byte < 256; ++byte)
    vocabulary[std::string(ByteCharacter(static_cast<unsigned char>(byte)))] = byte;
  int next = 256;
  for (const std::string& merge : merges) {
    std::string token = merge;
    token.erase(token.find(' '), 1);
    if (!vocabulary.contains(token)) vocabulary[token] = next++;
  }
  nlohmann::json document;
  document["model"] = {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", merges}};
  document["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  document["decoder"] = {{"type", "ByteLevel"}};
  document["added_tokens"] = nlohmann::json::array();
  return document;
}

// A SentencePiece-style document: <unk> 0, <s> 1, </s> 2, the bytes from 3 on if `bytes`, then `tokens`.
inline nlohmann::json SentencePieceDocument(const std::vector<std::string>& tokens,
                                            const std::vector<std::string>& merges, bool bytes) {
  nlohmann::json vocabulary = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  int next = 3;
  for (int byte = 0; bytes && byte < 256; ++byte) {
    constexpr char kDigits[] = "0123456789ABCDEF";
    vocabulary[std::string("<0x") + kDigits[byte >> 4] + kDigits[byte & 15] + ">"] = next++;
  }
  for (const std::string& token : tokens) vocabulary[token] = next++;
  nlohmann::json document;
  document["model"] = {{"type", "BPE"},        {"vocab", vocabulary}, {"merges", merges},
                       {"unk_token", "<unk>"}, {"fuse_unk", true},    {"byte_fallback", bytes}};
  return document;
}

inline void AddToken(nlohmann::json& document, const std::string& content, int id, bool special,
                     const std::vector<std::string>& flags = {}) {
  nlohmann::json token = {{"id", id}, {"content", content}, {"special", special}};
  for (const char* flag : {"single_word", "lstrip", "rstrip", "normalized"}) token[flag] = false;
  for (const std::string& flag : flags) token[flag] = true;
  document["added_tokens"].push_back(token);
}

inline absl::StatusOr<std::shared_ptr<const Tokenizer>> ParseDocument(const nlohmann::json& document) {
  return Tokenizer::Parse(document.dump(), "tokenizer.json");
}

// The tokenizer of a document that must be valid.
inline std::shared_ptr<const Tokenizer> MustParse(const nlohmann::json& document) {
  auto tokenizer = ParseDocument(document);
  if (!tokenizer.ok()) throw std::runtime_error(std::string(tokenizer.status().message()));
  return *tokenizer;
}

// What a text becomes, as the vocabulary spells it, joined by '|'.
inline std::string Spell(const Tokenizer& tokenizer, std::string_view text, bool add_special_tokens = false) {
  const auto ids = tokenizer.Encode(text, add_special_tokens);
  if (!ids.ok()) return std::string(ids.status().ToString());
  std::string spelt;
  for (const int32_t id : *ids) spelt += (spelt.empty() ? "" : "|") + tokenizer.TokenText(id);
  return spelt;
}

}  // namespace hysparse
