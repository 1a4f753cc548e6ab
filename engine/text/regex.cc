#include "engine/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/result.h"
#include "engine/text/regex_syntax.h"
#include "engine/text/utf8.h"

namespace hysparse {
namespace {

// A backtracking pattern over a run of white space or letters needs a few steps per character; this allows runs of a
// few million characters and ends a runaway match within a fraction of a second.
constexpr uint32_t kMatchLimit = 20'000'000;
constexpr uint32_t kHeapLimitKib = 64 << 10;
constexpr size_t kJitStackStart = 64 << 10, kJitStackLimit = 16 << 20;

// What a thread needs to match: PCRE2 writes to these, so they are not shared. The JIT stack grows on demand.
struct ThreadState {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(kJitStackStart, kJitStackLimit, nullptr);

  ThreadState() {
    if (context == nullptr) return;
    pcre2_set_match_limit(context, kMatchLimit);
    pcre2_set_heap_limit(context, kHeapLimitKib);
    if (stack != nullptr) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~ThreadState() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    if (stack != nullptr) pcre2_jit_stack_free(stack);
  }
  ThreadState(const ThreadState&) = delete;
  ThreadState& operator=(const ThreadState&) = delete;
};

std::string ErrorText(int code) {
  PCRE2_UCHAR buffer[256];
  if (pcre2_get_error_message(code, buffer, sizeof buffer) < 0) return absl::StrCat("PCRE2 error ", code);
  return reinterpret_cast<const char*>(buffer);
}

}  // namespace

struct Regex::Code {
  pcre2_code* compiled = nullptr;
  bool jit = false;
  ~Code() { pcre2_code_free(compiled); }

  // PCRE2's return code for the first match at or after `start`; a negative one other than NOMATCH is an error.
  int Search(std::string_view text, size_t start, ThreadState& state) const {
    const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    if (jit) {
      const int rc = pcre2_jit_match(compiled, subject, text.size(), start, 0, state.data, state.context);
      if (rc != PCRE2_ERROR_JIT_STACKLIMIT) return rc;
    }
    // The interpreter keeps its frames on the heap and so reaches further than the JIT stack.
    return pcre2_match(compiled, subject, text.size(), start, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, state.data,
                       state.context);
  }
};

Regex::Regex(std::unique_ptr<Code> code) : code_(std::move(code)) {}
Regex::~Regex() = default;

absl::StatusOr<std::unique_ptr<const Regex>> Regex::Compile(std::string_view oniguruma_pattern) {
  HYSPARSE_ASSIGN_OR_RETURN(const std::string pattern, TranslateOniguruma(oniguruma_pattern));
  return CompilePcre(pattern, /*literal=*/false);
}

absl::StatusOr<std::unique_ptr<const Regex>> Regex::CompileLiteral(std::string_view text) {
  return CompilePcre(text, /*literal=*/true);
}

absl::StatusOr<std::unique_ptr<const Regex>> Regex::CompilePcre(std::string_view pattern, bool literal) {
  const uint32_t options = literal ? PCRE2_UTF | PCRE2_LITERAL : PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE;
  int error = 0;
  PCRE2_SIZE offset = 0;
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
  if (context == nullptr || pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF) != 0) {
    return absl::ResourceExhaustedError("no memory for a pattern");
  }
  auto code = std::make_unique<Code>();
  code->compiled = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), options, &error, &offset,
                                 context.get());
  if (code->compiled == nullptr)
    return absl::InvalidArgumentError(absl::StrCat("the pattern is broken: ", ErrorText(error)));
  code->jit = pcre2_jit_compile(code->compiled, PCRE2_JIT_COMPLETE) == 0;
  return std::unique_ptr<const Regex>(new Regex(std::move(code)));
}

absl::Status Regex::Partition(std::string_view text, std::vector<Match>& out) const {
  thread_local ThreadState state;
  if (state.data == nullptr || state.context == nullptr) return absl::ResourceExhaustedError("no memory for a match");
  size_t covered = 0, search = 0, last_end = SIZE_MAX;
  while (search <= text.size() && !text.empty()) {
    const int rc = code_->Search(text, search, state);
    if (rc == PCRE2_ERROR_NOMATCH) break;
    if (rc < 0) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the text is too hard for the tokenizer's pattern (", ErrorText(rc), ")"));
    }
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(state.data);
    const size_t begin = bounds[0], end = bounds[1];
    if (begin == end && end == last_end) {  // an empty match right behind the last one does not count
      search += search < text.size() ? Utf8Length(text[search]) : 1;
      continue;
    }
    if (covered < begin) out.push_back({covered, begin, false});
    out.push_back({begin, end, true});
    covered = search = last_end = end;
  }
  if (covered < text.size()) out.push_back({covered, text.size(), false});
  return absl::OkStatus();
}

}  // namespace hysparse
