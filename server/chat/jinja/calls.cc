#include <algorithm>

#include "engine/base/result.h"
#include "server/chat/jinja/cat.h"
#include "server/chat/jinja/evaluator.h"
#include "server/chat/jinja/operators.h"

namespace hysparse::jinja {

absl::StatusOr<Args> Evaluator::Arguments(const CallArgs& args, Scope* scope, Value first) {
  Args result;
  if (!first.missing()) result.positional.push_back(std::move(first));
  for (const ExprPtr& expr : args.positional) {
    HYSPARSE_ASSIGN_OR_RETURN(Value value, Eval(*expr, scope));
    result.positional.push_back(std::move(value));
  }
  for (const auto& [name, expr] : args.named) {
    HYSPARSE_ASSIGN_OR_RETURN(Value value, Eval(*expr, scope));
    result.named.emplace_back(name, std::move(value));
  }
  if (args.star != nullptr) {
    HYSPARSE_ASSIGN_OR_RETURN(const Value more, Eval(*args.star, scope));
    HYSPARSE_ASSIGN_OR_RETURN(std::vector<Value> items, Items(heap_, more));
    for (Value& item : items) result.positional.push_back(std::move(item));
  }
  if (args.star_star != nullptr) {
    HYSPARSE_ASSIGN_OR_RETURN(const Value more, Eval(*args.star_star, scope));
    const Dict* dict = more.as<Dict>();
    if (dict == nullptr) return Error("argument after ** must be a mapping");
    for (const auto& [key, value] : dict->items) {
      if (!key.string()) return Error("keywords must be strings");
      for (const auto& [known, other] : result.named) {
        if (known == key.str()) return Error(Cat("got multiple values for keyword argument '", known, "'"));
      }
      result.named.emplace_back(key.str(), value);
    }
  }
  return result;
}

absl::StatusOr<Value> Evaluator::CallExpr(const Expr& expr, Scope* scope, std::pair<std::string, Value>* extra) {
  const Expr& callee = *expr.children[0];
  Value target, self;
  Builtin method = nullptr;
  if (callee.kind == Expr::Kind::kAttribute) {  // a method is called without making a bound one
    const Level level(this);
    HYSPARSE_RETURN_IF_ERROR(level.Check());
    HYSPARSE_ASSIGN_OR_RETURN(self, Eval(*callee.children[0], scope));
    method = FindMethod(self, callee.name);
    if (method == nullptr) {
      HYSPARSE_ASSIGN_OR_RETURN(target, GetAttribute(self, callee.name));
    }
  } else {
    HYSPARSE_ASSIGN_OR_RETURN(target, Eval(callee, scope));
  }
  HYSPARSE_ASSIGN_OR_RETURN(Args args, Arguments(expr.args, scope, method == nullptr ? Value() : self));
  if (extra != nullptr) args.named.push_back(std::move(*extra));
  return method != nullptr ? method(*this, args) : Call(target, args);
}

absl::StatusOr<Value> Evaluator::Call(const Value& callee, Args& args) {
  if (callee.undefined()) return UndefinedError(callee);
  if (Function* function = callee.as<Function>(); function != nullptr) return function->body(args);
  if (Macro* macro = callee.as<Macro>(); macro != nullptr) return CallMacro(*macro, args);
  if (Loop* loop = callee.as<Loop>(); loop != nullptr) {
    if (loop->scope == nullptr) return Error("the loop has ended");
    if (!loop->stmt->recursive) {
      return Error("The loop must have the 'recursive' marker to be called recursively.");
    }
    HYSPARSE_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("loop", args, {"iterable"}, 1));
    Text text;
    const Level level(this);
    HYSPARSE_RETURN_IF_ERROR(level.Check());
    HYSPARSE_RETURN_IF_ERROR(RunLoop(*loop->stmt, bound[0], loop->depth0 + 1, loop->scope, &text).status());
    return heap_.NewString(std::move(text));
  }
  return Error(Cat("'", TypeName(callee), "' object is not callable"));
}

absl::StatusOr<Value> Evaluator::CallFilter(std::string_view name, Args& args) {
  const Builtin filter = FindFilter(name);
  if (filter == nullptr) return Error(Cat("No filter named '", name, "'."));
  return filter(*this, args);
}

absl::StatusOr<Value> Evaluator::CallTest(std::string_view name, Args& args) {
  const Builtin test = FindTest(name);
  if (test == nullptr) return Error(Cat("No test named '", name, "'."));
  return test(*this, args);
}

absl::StatusOr<Value> Evaluator::CallMacro(const Macro& macro, Args& args) {
  const Level level(this);
  HYSPARSE_RETURN_IF_ERROR(level.Check());
  HYSPARSE_ASSIGN_OR_RETURN(Scope * scope, NewScope(macro.scope));
  HYSPARSE_RETURN_IF_ERROR(BindParameters(macro, args, scope));
  Text text;
  HYSPARSE_RETURN_IF_ERROR(Execute(macro.stmt->body, scope, &text).status());
  if (!scope->captured) {
    heap_.Credit(sizeof(Scope));
    scopes_.erase(std::find_if(scopes_.begin(), scopes_.end(), [scope](const auto& s) { return s.get() == scope; }));
  }
  return heap_.NewString(std::move(text));
}

absl::Status Evaluator::BindParameters(const Macro& macro, Args& args, Scope* scope) {
  const Signature& signature = macro.stmt->signature;
  const size_t count = signature.names.size();
  const size_t first_default = count - signature.defaults.size();
  const size_t given = std::min(count, args.positional.size());
  for (size_t i = 0; i < count; ++i) {
    Value value;
    if (i < given) {
      value = args.positional[i];
    } else {
      auto named = std::find_if(args.named.begin(), args.named.end(),
                                [&](const auto& entry) { return entry.first == signature.names[i]; });
      if (named != args.named.end()) {
        value = named->second;
        args.named.erase(named);
      }
    }
    scope->Set(signature.symbols[i], std::move(value));
  }
  // A default may refer to the parameters before it, not to those behind.
  for (size_t i = given; i < count; ++i) {
    if (!scope->Find(signature.symbols[i])->missing()) continue;
    Value value = Value::OfUndefined(Cat("parameter '", signature.names[i], "' was not provided"));
    if (i >= first_default) {
      HYSPARSE_ASSIGN_OR_RETURN(value, Eval(*signature.defaults[i - first_default], scope));
    }
    scope->Set(signature.symbols[i], std::move(value));
  }
  return BindExtras(macro, args, scope);
}

absl::Status Evaluator::BindExtras(const Macro& macro, Args& args, Scope* scope) {
  const Signature& signature = macro.stmt->signature;
  const std::string& name = macro.stmt->name;
  const bool caller_is_parameter = std::count(signature.names.begin(), signature.names.end(), "caller") != 0;
  if (signature.uses_caller && !caller_is_parameter) {
    Value caller = Value::OfUndefined("No caller defined");
    auto named = std::find_if(args.named.begin(), args.named.end(), [](const auto& e) { return e.first == "caller"; });
    if (named != args.named.end()) {
      caller = named->second;
      args.named.erase(named);
    }
    scope->Set(tree_.caller_symbol, std::move(caller));
  }
  if (signature.uses_kwargs) {
    HYSPARSE_ASSIGN_OR_RETURN(Dict * rest, heap_.NewDict());
    for (auto& [key, value] : args.named) {
      HYSPARSE_ASSIGN_OR_RETURN(const Value text, heap_.NewString(key, true));
      HYSPARSE_RETURN_IF_ERROR(heap_.SetItem(rest, text, value));
    }
    scope->Set(tree_.kwargs_symbol, Value::OfObject(rest));
  } else if (!args.named.empty()) {
    return Error(Cat("macro '", name, "' takes no keyword argument '", args.named[0].first, "'"));
  }
  if (signature.uses_varargs) {
    std::vector<Value> rest;
    for (size_t i = signature.names.size(); i < args.positional.size(); ++i) rest.push_back(args.positional[i]);
    HYSPARSE_ASSIGN_OR_RETURN(const Value tuple, heap_.NewList(std::move(rest), true));
    scope->Set(tree_.varargs_symbol, tuple);
  } else if (args.positional.size() > signature.names.size()) {
    return Error(Cat("macro '", name, "' takes not more than ", signature.names.size(), " argument(s)"));
  }
  return absl::OkStatus();
}

}  // namespace hysparse::jinja
