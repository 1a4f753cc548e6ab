// Debian's Abseil is built with its own string_view; this passes a std::string_view to StrCat and friends.
#pragma once

#include <string_view>

#include "absl/strings/string_view.h"

namespace hysparse {

inline absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

}  // namespace hysparse
