// Operations on provenance-carrying text that filters and methods share. Indices are bytes unless said otherwise. Pure;
// any thread.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/chat/jinja/heap.h"
#include "server/chat/jinja/text.h"

namespace hysparse::jinja {

enum class Side { kLeft, kRight, kBoth };
// Without `chars` strips whitespace, else any of its code points.
Text Strip(const Text& text, const std::string* chars, Side side);
// str.replace; count < 0 means all. Fails when the result would not fit the heap.
absl::StatusOr<Text> Replace(Heap& heap, const Text& text, const Text& from, const Text& to, int64_t count);
// str.splitlines()
std::vector<Text> SplitLines(const Text& text, bool keep_ends);
// str.split(separator, limit) and rsplit; an empty separator means runs of whitespace.
std::vector<Text> Split(const Text& text, std::string_view separator, int64_t limit, bool from_right);

}  // namespace hysparse::jinja
