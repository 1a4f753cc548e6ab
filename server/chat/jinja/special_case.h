// Characters whose upper or title case is more than one character (Unicode's SpecialCasing.txt, the unconditional
// entries), which utf8proc's simple mappings leave out. Constant data; any thread.
#pragma once

#include <string_view>

namespace hysparse::jinja {

struct SpecialCase {
  char32_t from;
  std::u32string_view upper;
  std::u32string_view title;
};

const SpecialCase* FindSpecialCase(char32_t c);  // null when its simple mapping is the whole truth

}  // namespace hysparse::jinja
