#include "server/chat/jinja/template.h"

#include <algorithm>
#include <iterator>

#include "engine/base/result.h"
#include "server/chat/jinja/evaluator.h"
#include "server/chat/jinja/operators.h"
#include "server/chat/jinja/parser.h"
#include "server/chat/jinja/unicode.h"

namespace hysparse::jinja {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxSource = 4u << 20;  // bytes of a template

// A message's role is one of the protocol's own words, and some templates make special tokens of it ("<|" + role +
// "|>").
bool IsRole(const std::string& key, const Json& value) {
  constexpr std::string_view kRoles[] = {"system", "developer", "user", "assistant", "tool", "function"};
  return key == "role" && value.is_string() &&
         std::find(std::begin(kRoles), std::end(kRoles), value.get_ref<const std::string&>()) != std::end(kRoles);
}

absl::StatusOr<Value> FromJson(Heap& heap, const Json& json, bool trusted, int depth = 0) {
  HYSPARSE_RETURN_IF_ERROR(heap.Step());
  if (depth > heap.limits().value_depth) return Error("the request's JSON nests too deeply");
  switch (json.type()) {
    case Json::value_t::boolean:
      return Value::OfBool(json.get_ref<const bool&>(), trusted);
    case Json::value_t::number_integer:
      return Value::OfInt(json.get_ref<const int64_t&>(), trusted);
    case Json::value_t::number_unsigned:
      return Value::OfInt(json.get_ref<const uint64_t&>(), trusted);
    case Json::value_t::number_float:
      return Value::OfFloat(json.get_ref<const double&>(), trusted);
    case Json::value_t::string:
      return heap.NewString(json.get_ref<const std::string&>(), trusted);
    case Json::value_t::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const Json& item : json) {
        HYSPARSE_ASSIGN_OR_RETURN(Value value, FromJson(heap, item, trusted, depth + 1));
        items.push_back(std::move(value));
      }
      HYSPARSE_ASSIGN_OR_RETURN(Value list, heap.NewList(std::move(items)));
      list.object()->trusted = trusted;
      return list;
    }
    case Json::value_t::object: {
      HYSPARSE_ASSIGN_OR_RETURN(Dict * dict, heap.NewDict());
      dict->trusted = trusted;
      for (auto it = json.begin(); it != json.end(); ++it) {
        HYSPARSE_ASSIGN_OR_RETURN(const Value key, heap.NewString(it.key(), trusted));
        HYSPARSE_ASSIGN_OR_RETURN(Value value,
                                  FromJson(heap, it.value(), trusted || IsRole(it.key(), it.value()), depth + 1));
        HYSPARSE_RETURN_IF_ERROR(heap.SetItem(dict, key, std::move(value)));
      }
      return Value::OfObject(dict);
    }
    default:
      return Value::OfNone(trusted);
  }
}

absl::Status SetVariables(Evaluator* evaluator, const Json& variables, bool trusted) {
  for (auto it = variables.begin(); it != variables.end(); ++it) {
    HYSPARSE_ASSIGN_OR_RETURN(Value value, FromJson(evaluator->heap(), it.value(), trusted));
    evaluator->SetVariable(it.key(), std::move(value));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Template> Template::Parse(std::string_view source) {
  if (source.size() > kMaxSource) return absl::InvalidArgumentError("the template is too large");
  if (!ValidUtf8(source)) return absl::InvalidArgumentError("the template is not valid UTF-8");
  HYSPARSE_ASSIGN_OR_RETURN(Tree tree, jinja::Parse(source));
  return Template(std::move(tree));
}

absl::StatusOr<Text> Template::Render(const Json& trusted, const Json& untrusted,
                                      std::chrono::system_clock::time_point now, const Limits& limits) const {
  Heap heap(limits);
  Evaluator evaluator(tree_, heap, now);
  SetGlobals(&evaluator);
  HYSPARSE_RETURN_IF_ERROR(SetVariables(&evaluator, untrusted, false));
  HYSPARSE_RETURN_IF_ERROR(SetVariables(&evaluator, trusted, true));
  return evaluator.Run();
}

}  // namespace hysparse::jinja
