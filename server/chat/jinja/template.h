// Template: a parsed Jinja template, immutable and shared between threads, and one render of it. Input is JSON:
// `trusted` variables (special tokens, flags of the server) may become special tokens, `untrusted` ones (messages,
// tools, keyword arguments of a request) never do. Errors are InvalidArgument.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "server/chat/jinja/ast.h"
#include "server/chat/jinja/heap.h"
#include "server/chat/jinja/text.h"

namespace hysparse::jinja {

class Template {
 public:
  static absl::StatusOr<Template> Parse(std::string_view source);

  absl::StatusOr<Text> Render(const nlohmann::ordered_json& trusted, const nlohmann::ordered_json& untrusted,
                              std::chrono::system_clock::time_point now, const Limits& limits = Limits()) const;

 private:
  explicit Template(Tree tree) : tree_(std::move(tree)) {}

  Tree tree_;
};

}  // namespace hysparse::jinja
