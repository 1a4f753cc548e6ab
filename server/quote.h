// The capacity quote as every front end asks for it: by a number of tokens, or by messages that are rendered and
// tokenised like a chat request.
#pragma once

#include <boost/asio/thread_pool.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "engine/quote.h"
#include "server/generation.h"
#include "server/served_model.h"

namespace hysparse {

struct QuoteSpec {
  std::optional<int64_t> prompt_tokens;
  std::optional<Prompt> messages;     // the one or the other
  std::optional<int64_t> max_tokens;  // unset: what the context leaves, 1 at least
};

// Runs on a worker thread, and gives it back while the engine is in the middle of a step: `done` is called once, on
// `workers`, when there is a quote. An error is returned instead, and `done` dropped; InvalidArgument names the field.
absl::Status QuoteFor(const std::shared_ptr<const ServedModel>& model, const QuoteSpec& spec,
                      boost::asio::thread_pool& workers, std::function<void(const absl::StatusOr<QuoteResult>&)> done);

}  // namespace hysparse
