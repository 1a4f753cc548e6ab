// How deep a JSON text nests, asked before it is parsed: the parser and those who walk its result recurse. Pure
// function.
#pragma once

#include <string_view>

namespace hysparse {

// Whether arrays and objects nest at most `limit` deep. Brackets in strings do not count; whether they match is left to
// the parser.
bool JsonDepthWithin(std::string_view json, int limit);

}  // namespace hysparse
