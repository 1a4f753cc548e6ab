#include "server/quote.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/result.h"
#include "server/error_map.h"

namespace hysparse {
namespace {

absl::Status CheckCount(const char* field, int64_t value) {
  if (value >= 1 && value <= kMaxTokens) return absl::OkStatus();
  return BadField(field, absl::StrCat("must lie in [1, ", kMaxTokens, "], not ", value));
}

}  // namespace

absl::Status QuoteFor(const std::shared_ptr<const ServedModel>& model, const QuoteSpec& spec,
                      boost::asio::thread_pool& workers, std::function<void(const absl::StatusOr<QuoteResult>&)> done) {
  if (spec.max_tokens) HYSPARSE_RETURN_IF_ERROR(CheckCount("max_tokens", *spec.max_tokens));
  if (spec.prompt_tokens) HYSPARSE_RETURN_IF_ERROR(CheckCount("prompt_tokens", *spec.prompt_tokens));
  if (spec.prompt_tokens && spec.messages) return BadField("prompt_tokens", "and messages exclude each other");
  if (!spec.prompt_tokens && !spec.messages) return BadField("prompt_tokens", "is missing, and so are messages");
  int64_t prompt = spec.prompt_tokens.value_or(0);
  if (spec.messages) {
    HYSPARSE_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                              EncodePrompt(*model, *spec.messages, /*add_special_tokens=*/true));
    if (ids.empty()) return BadField("messages", "has no tokens");
    prompt = static_cast<int64_t>(ids.size());
  }
  const int64_t answer = spec.max_tokens.value_or(std::max<int64_t>(1, model->max_model_len - prompt));
  return model->engine->AskSnapshot([=, &workers, done = std::move(done)](const SnapshotPtr& snapshot) {
    boost::asio::post(workers, [=] { done(model->engine->Quote(*snapshot, prompt, answer)); });
  });
}

}  // namespace hysparse
