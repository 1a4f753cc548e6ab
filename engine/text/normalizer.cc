#include "engine/text/normalizer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/result.h"

namespace hysparse {

absl::StatusOr<std::unique_ptr<const Normalizer>> Normalizer::Parse(const JsonView& json) {
  HYSPARSE_ASSIGN_OR_RETURN(const std::string type, json.Type());
  return json.Error(absl::StrCat("a normalizer of type '", type, "' is not supported"));
}

}  // namespace hysparse
