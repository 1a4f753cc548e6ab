#include "engine/base/result.h"
#include "server/chat/jinja/cat.h"
#include "server/chat/jinja/evaluator.h"
#include "server/chat/jinja/operators.h"
#include "server/chat/jinja/print.h"

namespace hysparse::jinja {

Evaluator::Evaluator(const Tree& tree, Heap& heap, WallClock::time_point now)
    : tree_(tree), heap_(heap), now_(now), context_(nullptr), root_(&context_) {}

void Evaluator::SetVariable(const std::string& name, Value value) {
  const int symbol = tree_.symbols.Find(name);
  if (symbol >= 0) context_.Set(symbol, std::move(value));
}

absl::StatusOr<Text> Evaluator::Run() {
  Text out;
  HYSPARSE_RETURN_IF_ERROR(Execute(tree_.body, &root_, &out).status());
  return out;
}

absl::StatusOr<Scope*> Evaluator::NewScope(Scope* parent) {
  HYSPARSE_RETURN_IF_ERROR(heap_.Reserve(sizeof(Scope)));
  heap_.Charge(sizeof(Scope));
  scopes_.push_back(std::make_unique<Scope>(parent));
  return scopes_.back().get();
}

absl::Status Evaluator::Print(const Value& value, Text* out) {
  HYSPARSE_RETURN_IF_ERROR(AppendStr(heap_, value, out));
  if (out->size() > heap_.limits().output_bytes) return Error("the template's output is too large");
  return absl::OkStatus();
}

absl::StatusOr<Evaluator::Flow> Evaluator::Execute(const Body& body, Scope* scope, Text* out) {
  for (const StmtPtr& stmt : body) {
    HYSPARSE_ASSIGN_OR_RETURN(const Flow flow, Execute(*stmt, scope, out));
    if (flow != Flow::kOn) return flow;
  }
  return Flow::kOn;
}

absl::StatusOr<Evaluator::Flow> Evaluator::Execute(const Stmt& stmt, Scope* scope, Text* out) {
  const Level level(this);
  HYSPARSE_RETURN_IF_ERROR(level.Check());
  using Kind = Stmt::Kind;
  switch (stmt.kind) {
    case Kind::kData:
      HYSPARSE_RETURN_IF_ERROR(Print(stmt.data, out));
      return Flow::kOn;
    case Kind::kPrint: {
      HYSPARSE_ASSIGN_OR_RETURN(const Value value, Eval(*stmt.value, scope));
      HYSPARSE_RETURN_IF_ERROR(Print(value, out));
      return Flow::kOn;
    }
    case Kind::kIf:
      return If(stmt, scope, out);
    case Kind::kFor:
      return For(stmt, scope, out);
    case Kind::kSet: {
      HYSPARSE_ASSIGN_OR_RETURN(const Value value, Eval(*stmt.value, scope));
      HYSPARSE_RETURN_IF_ERROR(Assign(*stmt.target, value, scope));
      return Flow::kOn;
    }
    case Kind::kSetBlock:
    case Kind::kFilter:
      return Capture(stmt, scope, out);
    case Kind::kMacro:
      HYSPARSE_RETURN_IF_ERROR(DefineMacro(stmt, scope));
      return Flow::kOn;
    case Kind::kCall:
      HYSPARSE_RETURN_IF_ERROR(CallBlock(stmt, scope, out));
      return Flow::kOn;
    case Kind::kWith:
      return With(stmt, scope, out);
    case Kind::kScope:
    case Kind::kBlock: {
      HYSPARSE_ASSIGN_OR_RETURN(Scope * inner, NewScope(stmt.kind == Kind::kBlock ? &root_ : scope));
      return Execute(stmt.body, inner, out);
    }
    case Kind::kBreak:
      return Flow::kBreak;
    case Kind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kOn;
}

absl::StatusOr<Evaluator::Flow> Evaluator::If(const Stmt& stmt, Scope* scope, Text* out) {
  for (const auto& [condition, body] : stmt.branches) {
    HYSPARSE_ASSIGN_OR_RETURN(const Value value, Eval(*condition, scope));
    if (Truthy(value)) return Execute(body, scope, out);
  }
  return Execute(stmt.otherwise, scope, out);
}

absl::StatusOr<Evaluator::Flow> Evaluator::With(const Stmt& stmt, Scope* scope, Text* out) {
  HYSPARSE_ASSIGN_OR_RETURN(Scope * inner, NewScope(scope));
  for (const auto& [target, expr] : stmt.bindings) {
    HYSPARSE_ASSIGN_OR_RETURN(const Value value, Eval(*expr, scope));
    HYSPARSE_RETURN_IF_ERROR(Assign(*target, value, inner));
  }
  return Execute(stmt.body, inner, out);
}

// {% set x %}…{% endset %} and {% filter f %}…{% endfilter %}: the body's output is a value.
absl::StatusOr<Evaluator::Flow> Evaluator::Capture(const Stmt& stmt, Scope* scope, Text* out) {
  HYSPARSE_ASSIGN_OR_RETURN(Scope * inner, NewScope(scope));
  Text text;
  HYSPARSE_ASSIGN_OR_RETURN(const Flow flow, Execute(stmt.body, inner, &text));
  if (flow != Flow::kOn) return flow;
  HYSPARSE_ASSIGN_OR_RETURN(Value value, heap_.NewString(std::move(text)));
  if (stmt.value != nullptr) {
    HYSPARSE_ASSIGN_OR_RETURN(value, FilterChain(*stmt.value, std::move(value), inner));
  }
  if (stmt.kind == Stmt::Kind::kFilter) {
    if (!value.string()) return Error(Cat("a filter block must yield str, not ", TypeName(value)));
    HYSPARSE_RETURN_IF_ERROR(Print(value, out));
  } else {
    HYSPARSE_RETURN_IF_ERROR(Assign(*stmt.target, value, scope));
  }
  return Flow::kOn;
}

absl::Status Evaluator::DefineMacro(const Stmt& stmt, Scope* scope) {
  HYSPARSE_ASSIGN_OR_RETURN(Macro * macro, heap_.New<Macro>(0, &stmt, scope));
  for (Scope* s = scope; s != nullptr; s = s->parent) s->captured = true;
  scope->Set(stmt.symbol, Value::OfObject(macro));
  return absl::OkStatus();
}

absl::Status Evaluator::CallBlock(const Stmt& stmt, Scope* scope, Text* out) {
  HYSPARSE_ASSIGN_OR_RETURN(Macro * caller, heap_.New<Macro>(0, &stmt, scope));
  for (Scope* s = scope; s != nullptr; s = s->parent) s->captured = true;
  std::pair<std::string, Value> extra("caller", Value::OfObject(caller));
  HYSPARSE_ASSIGN_OR_RETURN(const Value value, CallExpr(*stmt.value, scope, &extra));
  return Print(value, out);
}

absl::Status Evaluator::Assign(const Expr& target, const Value& value, Scope* scope) {
  HYSPARSE_RETURN_IF_ERROR(heap_.Step());
  if (target.kind == Expr::Kind::kTuple) return Unpack(target, value, scope);
  if (target.kind == Expr::Kind::kName) {
    scope->Set(target.symbol, value);
    return absl::OkStatus();
  }
  const Value* object = scope->Find(target.symbol);
  Namespace* space = object == nullptr ? nullptr : object->as<Namespace>();
  if (space == nullptr) return Error("cannot assign attribute on non-namespace object");
  HYSPARSE_ASSIGN_OR_RETURN(const Value key, heap_.NewString(target.attribute, true));
  return heap_.SetItem(space->values, key, value);
}

absl::Status Evaluator::Unpack(const Expr& target, const Value& value, Scope* scope) {
  if (!Iterable(value)) return Error(Cat("cannot unpack non-iterable ", TypeName(value), " object"));
  HYSPARSE_ASSIGN_OR_RETURN(const std::vector<Value> items, Items(heap_, value));
  if (items.size() != target.children.size()) {
    return Error(
        items.size() < target.children.size()
            ? Cat("not enough values to unpack (expected ", target.children.size(), ", got ", items.size(), ")")
            : Cat("too many values to unpack (expected ", target.children.size(), ")"));
  }
  for (size_t i = 0; i < items.size(); ++i) {
    HYSPARSE_RETURN_IF_ERROR(Assign(*target.children[i], items[i], scope));
  }
  return absl::OkStatus();
}

}  // namespace hysparse::jinja
