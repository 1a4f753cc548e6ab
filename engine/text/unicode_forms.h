// Unicode normalisation forms as the `tokenizers` library computes them. Its tables are of Unicode 9: characters that
// came later and decompose, compose or reorder in Unicode 15 (utf8proc 2.8) are left alone and nothing combines across
// them. O(n log n) also for endless runs of combining marks. Pure functions; any thread.
#pragma once

#include <string>
#include <string_view>

namespace hysparse {

enum class UnicodeForm { kNfc, kNfd, kNfkc, kNfkd };

// `text` must be valid UTF-8.
std::string ToUnicodeForm(std::string_view text, UnicodeForm form);

// Lower case, character by character (no context: a final sigma is like any other). Unicode 17.
std::string ToLowerCase(std::string_view text);

}  // namespace hysparse
