#include "engine/text/post_processor.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/result.h"

namespace hysparse {

absl::StatusOr<PostProcessor> PostProcessor::Parse(const JsonView& json) {
  PostProcessor processor;
  if (!json.IsNull()) HYSPARSE_RETURN_IF_ERROR(processor.Add(json));
  return processor;
}

absl::Status PostProcessor::Add(const JsonView& json) {
  HYSPARSE_ASSIGN_OR_RETURN(const std::string type, json.Type());
  if (type == "ByteLevel") return absl::OkStatus();  // moves offsets only
  if (type == "Sequence") {
    HYSPARSE_ASSIGN_OR_RETURN(const std::vector<JsonView> processors, json.Array("processors"));
    for (const JsonView& processor : processors) HYSPARSE_RETURN_IF_ERROR(Add(processor));
    return absl::OkStatus();
  }
  const bool bert = type == "BertProcessing" || type == "RobertaProcessing";
  if (!bert && type != "TemplateProcessing") {
    return json.Error(absl::StrCat("a post-processor of type '", type, "' is not supported"));
  }
  if (!parts_.empty()) return json.Error("a second post-processor that adds tokens is not supported");
  return bert ? AddBert(json) : AddTemplate(json);
}

absl::Status PostProcessor::AddTemplate(const JsonView& json) {
  HYSPARSE_ASSIGN_OR_RETURN(const std::vector<JsonView> single, json.Array("single"));
  HYSPARSE_ASSIGN_OR_RETURN(const JsonView special_tokens, json.Object("special_tokens"));
  for (const JsonView& piece : single) {
    if (piece.Has("Sequence")) {
      HYSPARSE_ASSIGN_OR_RETURN(const JsonView sequence, piece.Object("Sequence"));
      HYSPARSE_ASSIGN_OR_RETURN(const std::string id, sequence.String("id"));
      if (id != "A") return sequence.Error("a single sequence has only the id A");
      parts_.push_back({true, {}});
      continue;
    }
    HYSPARSE_ASSIGN_OR_RETURN(const JsonView special, piece.Object("SpecialToken"));
    HYSPARSE_ASSIGN_OR_RETURN(const std::string name, special.String("id"));
    HYSPARSE_ASSIGN_OR_RETURN(const JsonView token, special_tokens.Object(name.c_str()));
    HYSPARSE_ASSIGN_OR_RETURN(const std::vector<JsonView> ids, token.Array("ids"));
    Part part{false, {}};
    for (const JsonView& id : ids) {
      const std::optional<int32_t> token_id = JsonView::AsId(id.value());
      if (!token_id.has_value()) return id.Error("must be a token id");
      part.tokens.push_back(*token_id);
    }
    parts_.push_back(std::move(part));
  }
  return absl::OkStatus();
}

absl::Status PostProcessor::AddBert(const JsonView& json) {
  const auto token = [&](const char* key) -> absl::StatusOr<Part> {
    HYSPARSE_ASSIGN_OR_RETURN(const std::vector<JsonView> pair, json.Array(key));
    const std::optional<int32_t> id = pair.size() == 2 ? JsonView::AsId(pair[1].value()) : std::nullopt;
    if (!id.has_value()) return json.Error(absl::StrCat("'", key, "' must be a pair of a token and its id"));
    return Part{false, {*id}};
  };
  HYSPARSE_ASSIGN_OR_RETURN(Part first, token("cls"));
  HYSPARSE_ASSIGN_OR_RETURN(Part last, token("sep"));
  parts_ = {std::move(first), {true, {}}, std::move(last)};
  return absl::OkStatus();
}

std::vector<int32_t> PostProcessor::Apply(std::vector<int32_t> ids, bool add_special_tokens) const {
  if (parts_.empty()) return ids;
  std::vector<int32_t> out;
  for (const Part& part : parts_) {
    if (part.is_sequence) {
      out.insert(out.end(), ids.begin(), ids.end());
    } else if (add_special_tokens) {
      out.insert(out.end(), part.tokens.begin(), part.tokens.end());
    }
  }
  return out;
}

}  // namespace hysparse
