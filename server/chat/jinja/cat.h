// Cat: the parts of a message joined. (The system's abseil has a string_view of its own, which StrCat wants.)
#pragma once

#include <concepts>
#include <string>
#include <string_view>

namespace hysparse::jinja {

inline void CatPart(std::string* out, std::string_view part) { out->append(part); }
template <std::integral T>
void CatPart(std::string* out, T part) {
  out->append(std::to_string(part));
}

template <typename... T>
std::string Cat(const T&... parts) {
  std::string out;
  (CatPart(&out, parts), ...);
  return out;
}

}  // namespace hysparse::jinja
