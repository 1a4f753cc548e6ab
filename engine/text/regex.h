// Regex: a tokenizer.json pattern (Oniguruma syntax) compiled by PCRE2 with JIT after translation (regex_syntax.h).
// Immutable, any number of threads. A match that needs more steps than the limit is an error, never a hang.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace hysparse {

// A match or the text between two matches. Bytes [begin, end).
struct Match {
  size_t begin, end;
  bool is_match;
};

class Regex {
 public:
  // InvalidArgument says what is wrong with the pattern or which construct is not supported.
  static absl::StatusOr<std::unique_ptr<const Regex>> Compile(std::string_view oniguruma_pattern);
  static absl::StatusOr<std::unique_ptr<const Regex>> CompileLiteral(std::string_view text);
  ~Regex();
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  // Appends the matches in `text` (valid UTF-8) and the gaps between them, in order and covering it. ResourceExhausted
  // when one match ran past the step limit.
  absl::Status Partition(std::string_view text, std::vector<Match>& out) const;

 private:
  struct Code;
  explicit Regex(std::unique_ptr<Code> code);
  static absl::StatusOr<std::unique_ptr<const Regex>> CompilePcre(std::string_view pattern, bool literal);
  std::unique_ptr<Code> code_;
};

}  // namespace hysparse
