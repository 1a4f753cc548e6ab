// Drives one tokenizer from standard input, for the differential suite.
//
//   tokenizer_driver FOLDER <requests >answers
//
// One request a line, one answer a line; text is in hexadecimal, "-" stands for the empty text:
//   E 0|1 TEXT        ids of Encode without and with special tokens        -> ids | ! message
//   S [t|u]TEXT…      ids of EncodeSegments: trusted and untrusted segments -> ids | ! message
//   D 0|1 ID…         Decode, keeping and skipping special tokens           -> TEXT
//   T 0|1 ID…         the Detokenizer's pieces, the last one from Finish    -> TEXT…
//   B ID              TokenBytes                                            -> TEXT
#include <cstdio>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "engine/text/detokenizer.h"
#include "engine/text/tokenizer.h"

namespace {

using hysparse::Detokenizer;
using hysparse::TextSegment;
using hysparse::Tokenizer;

std::string Hex(const std::string& text) { return text.empty() ? "-" : absl::BytesToHexString(text); }
std::string Unhex(absl::string_view hex) { return hex == "-" ? "" : absl::HexStringToBytes(hex); }

std::string Ids(const absl::StatusOr<std::vector<int32_t>>& ids) {
  if (!ids.ok()) return absl::StrCat("! ", ids.status().message());
  return absl::StrJoin(*ids, " ");
}

std::vector<int32_t> ParseIds(const std::vector<absl::string_view>& words) {
  std::vector<int32_t> ids;
  for (size_t i = 2; i < words.size(); ++i) {
    if (int32_t id; absl::SimpleAtoi(words[i], &id)) ids.push_back(id);
  }
  return ids;
}

std::string Answer(const std::shared_ptr<const Tokenizer>& tokenizer, const std::string& line) {
  const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
  if (words.size() < 2) return "? broken request";
  const bool flag = words[1] == "1";
  if (words[0] == "E" && words.size() == 3) return Ids(tokenizer->Encode(Unhex(words[2]), flag));
  if (words[0] == "D") return Hex(tokenizer->Decode(ParseIds(words), flag));
  if (words[0] == "B") {
    int32_t id = -1;
    return absl::SimpleAtoi(words[1], &id) ? Hex(tokenizer->TokenBytes(id)) : "? broken request";
  }
  if (words[0] == "S") {
    std::vector<TextSegment> segments;
    for (size_t i = 1; i < words.size(); ++i) segments.push_back({Unhex(words[i].substr(1)), words[i][0] == 't'});
    return Ids(tokenizer->EncodeSegments(segments));
  }
  if (words[0] == "T") {
    Detokenizer detokenizer(tokenizer, flag);
    std::string pieces;
    for (const int32_t id : ParseIds(words)) absl::StrAppend(&pieces, Hex(detokenizer.Append(id)), " ");
    return pieces + Hex(detokenizer.Finish());
  }
  return "? unknown request";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: tokenizer_driver FOLDER\n";
    return 2;
  }
  const auto tokenizer = Tokenizer::Load(argv[1]);
  if (!tokenizer.ok()) {
    std::cerr << tokenizer.status().message() << "\n";
    return 1;
  }
  std::ios::sync_with_stdio(false);
  for (std::string line; std::getline(std::cin, line);) std::cout << Answer(*tokenizer, line) << '\n';
  return std::cout.flush() ? 0 : 1;
}
