#include "engine/base/result.h"
#include "server/chat/jinja/cat.h"
#include "server/chat/jinja/evaluator.h"
#include "server/chat/jinja/operators.h"

namespace hysparse::jinja {

absl::StatusOr<Evaluator::Flow> Evaluator::For(const Stmt& stmt, Scope* scope, Text* out) {
  HYSPARSE_ASSIGN_OR_RETURN(const Value items, Eval(*stmt.value, scope));
  return RunLoop(stmt, items, 0, scope, out);
}

// The items one by one, those that the loop's condition turns down left out.
absl::StatusOr<Loop::Draw> Evaluator::DrawFrom(const Stmt& stmt, const Value& items, Scope* scope) {
  if (!Iterable(items)) return Error(Cat("'", TypeName(items), "' object is not iterable"));
  HYSPARSE_ASSIGN_OR_RETURN(std::vector<Value> all, Items(heap_, items));
  HYSPARSE_RETURN_IF_ERROR(heap_.Reserve(all.size() * sizeof(Value)));
  auto source = [all = std::move(all), next = size_t{0}]() mutable -> absl::StatusOr<std::optional<Value>> {
    if (next == all.size()) return std::optional<Value>();
    return std::optional<Value>(std::move(all[next++]));
  };
  if (stmt.test == nullptr) return Loop::Draw(std::move(source));
  HYSPARSE_ASSIGN_OR_RETURN(Scope * inner, NewScope(scope));
  return Loop::Draw([this, &stmt, inner, source = std::move(source)]() mutable -> absl::StatusOr<std::optional<Value>> {
    while (true) {
      HYSPARSE_ASSIGN_OR_RETURN(std::optional<Value> item, source());
      if (!item.has_value()) return item;
      HYSPARSE_RETURN_IF_ERROR(Assign(*stmt.target, *item, inner));
      HYSPARSE_ASSIGN_OR_RETURN(const Value verdict, Eval(*stmt.test, inner));
      if (!Truthy(verdict)) continue;
      if (stmt.target->kind != Expr::Kind::kTuple) return item;
      // Python's loop sees what was unpacked for the condition, packed again: a tuple whatever it was.
      HYSPARSE_ASSIGN_OR_RETURN(Value packed, ListExpr(*stmt.target, inner));
      return std::optional<Value>(std::move(packed));
    }
  });
}

absl::StatusOr<Evaluator::Flow> Evaluator::RunLoop(const Stmt& stmt, const Value& items, int depth0, Scope* scope,
                                                   Text* out) {
  HYSPARSE_ASSIGN_OR_RETURN(Loop * loop, heap_.New<Loop>(0));
  loop->stmt = &stmt;
  loop->scope = scope;
  loop->depth0 = depth0;
  if (stmt.test == nullptr) loop->fixed_length = LengthOf(items);
  HYSPARSE_ASSIGN_OR_RETURN(loop->draw, DrawFrom(stmt, items, scope));
  Scope* inner = nullptr;
  bool broken = false, completed = false;
  while (!broken) {
    HYSPARSE_ASSIGN_OR_RETURN(const bool more, Advance(loop));
    if (!more) break;
    // Every turn starts with fresh variables; the scope itself is used again unless a macro still sees it.
    if (inner == nullptr || inner->captured) {
      HYSPARSE_ASSIGN_OR_RETURN(inner, NewScope(scope));
    }
    inner->variables.clear();
    inner->Set(tree_.loop_symbol, Value::OfObject(loop));
    HYSPARSE_RETURN_IF_ERROR(Assign(*stmt.target, loop->current, inner));
    HYSPARSE_ASSIGN_OR_RETURN(const Flow flow, Execute(stmt.body, inner, out));
    broken = flow == Flow::kBreak;
    completed = completed || flow == Flow::kOn;
  }
  loop->draw = nullptr;  // whoever kept the loop finds it finished, not its scopes
  loop->scope = nullptr;
  loop->ahead.clear();
  loop->next_ahead = 0;
  if (completed) return Flow::kOn;  // Jinja runs `else` unless some turn came to its end
  HYSPARSE_ASSIGN_OR_RETURN(Scope * otherwise, NewScope(scope));
  return Execute(stmt.otherwise, otherwise, out);
}

absl::StatusOr<bool> Evaluator::Advance(Loop* loop) {
  HYSPARSE_ASSIGN_OR_RETURN(const Value* next, Peek(loop));
  if (next == nullptr) return false;
  loop->previous = std::move(loop->current);
  loop->current = *next;
  if (++loop->next_ahead == loop->ahead.size()) {
    loop->ahead.clear();
    loop->next_ahead = 0;
  }
  ++loop->index0;
  return true;
}

// The item after the current one; null at the end.
absl::StatusOr<const Value*> Evaluator::Peek(Loop* loop) {
  if (loop->next_ahead == loop->ahead.size()) {
    if (!loop->draw) return nullptr;
    HYSPARSE_ASSIGN_OR_RETURN(std::optional<Value> item, loop->draw());
    if (!item.has_value()) return nullptr;
    loop->ahead.push_back(*std::move(item));
  }
  return &loop->ahead[loop->next_ahead];
}

absl::StatusOr<int64_t> Evaluator::LoopLength(Loop* loop) {
  if (loop->fixed_length >= 0) return loop->fixed_length;
  while (loop->draw) {  // only drawing everything tells how many pass the condition
    HYSPARSE_ASSIGN_OR_RETURN(std::optional<Value> item, loop->draw());
    if (!item.has_value()) break;
    loop->ahead.push_back(*std::move(item));
  }
  loop->fixed_length = loop->index0 + 1 + static_cast<int64_t>(loop->ahead.size() - loop->next_ahead);
  return loop->fixed_length;
}

absl::StatusOr<Value> Evaluator::LoopAttribute(Loop* loop, const std::string& name) {
  if (name == "index") return Value::OfInt(loop->index0 + 1);
  if (name == "index0") return Value::OfInt(loop->index0);
  if (name == "first") return Value::OfBool(loop->index0 == 0);
  if (name == "depth") return Value::OfInt(loop->depth0 + 1);
  if (name == "depth0") return Value::OfInt(loop->depth0);
  if (name == "previtem") {
    return loop->previous.missing() ? Value::OfUndefined("there is no previous item") : loop->previous;
  }
  if (name == "last" || name == "nextitem") {
    HYSPARSE_ASSIGN_OR_RETURN(const Value* next, Peek(loop));
    if (name == "last") return Value::OfBool(next == nullptr);
    return next == nullptr ? Value::OfUndefined("there is no next item") : *next;
  }
  if (name == "length" || name == "revindex" || name == "revindex0") {
    HYSPARSE_ASSIGN_OR_RETURN(const int64_t length, LoopLength(loop));
    if (name == "length") return Value::OfInt(length);
    return Value::OfInt(length - loop->index0 - (name == "revindex0"));
  }
  return LoopMethod(loop, name);
}

absl::StatusOr<Value> Evaluator::LoopMethod(Loop* loop, const std::string& name) {
  Function::Body body;
  if (name == "cycle") {
    body = [loop](Args& args) -> absl::StatusOr<Value> {
      if (args.positional.empty()) return Error("no items for cycling given");
      return args.positional[static_cast<size_t>(loop->index0) % args.positional.size()];
    };
  } else if (name == "changed") {
    body = [this, loop](Args& args) -> absl::StatusOr<Value> {
      bool same = loop->last_changed.has_value() && loop->last_changed->size() == args.positional.size();
      for (size_t i = 0; same && i < args.positional.size(); ++i) {
        HYSPARSE_ASSIGN_OR_RETURN(same, Equal(heap_, (*loop->last_changed)[i], args.positional[i]));
      }
      if (!same) loop->last_changed = args.positional;
      return Value::OfBool(!same);
    };
  } else {
    return Value::OfUndefined(Cat("'LoopContext object' has no attribute '", name, "'"));
  }
  HYSPARSE_ASSIGN_OR_RETURN(Function * function, heap_.New<Function>(0, name, std::move(body)));
  return Value::OfObject(function);
}

}  // namespace hysparse::jinja
