#include "engine/text/tokenizer.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "engine/base/file.h"
#include "engine/base/json_depth.h"
#include "engine/base/result.h"
#include "engine/text/hf_tokenizer.h"
#include "engine/text/string_view.h"

namespace hysparse {
namespace {

constexpr int kMaxDepth = 64;  // of nested arrays and objects; components are parsed recursively

}  // namespace

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::Load(const std::string& folder) {
  const std::string path = folder + "/tokenizer.json";
  HYSPARSE_ASSIGN_OR_RETURN(const std::string json, ReadFile(path));
  return Parse(json, path);
}

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::Parse(std::string_view json, std::string_view name) {
  if (!JsonDepthWithin(json, kMaxDepth))
    return absl::InvalidArgumentError(absl::StrCat(View(name), ": nests too deeply"));
  nlohmann::json document;
  try {
    document = nlohmann::json::parse(json.begin(), json.end());
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(View(name), ": not valid JSON: ", error.what()));
  }
  HYSPARSE_ASSIGN_OR_RETURN(std::shared_ptr<const Tokenizer> tokenizer,
                            HfTokenizer::Build(JsonView(document, std::string(name))));
  return tokenizer;
}

}  // namespace hysparse
