// The callables and loop state that only the evaluator makes. They refer to the tree and to scopes of one render.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "server/chat/jinja/ast.h"
#include "server/chat/jinja/value.h"

namespace hysparse::jinja {

// Variables of one block of the template: a short list, searched backwards through the parents.
struct Scope {
  explicit Scope(Scope* parent) : parent(parent) {}
  void Set(int symbol, Value value) {
    for (auto& [known, old] : variables) {
      if (known == symbol) {
        old = std::move(value);
        return;
      }
    }
    variables.emplace_back(symbol, std::move(value));
  }
  const Value* Find(int symbol) const {
    for (const Scope* scope = this; scope != nullptr; scope = scope->parent) {
      for (const auto& [known, value] : scope->variables) {
        if (known == symbol) return &value;
      }
    }
    return nullptr;
  }

  Scope* parent;
  bool captured = false;  // a macro was defined here and sees it later
  std::vector<std::pair<int, Value>> variables;
};

struct Macro : Object {
  Macro(const Stmt* stmt, Scope* scope) : Object(Type::kMacro), stmt(stmt), scope(scope) {}
  const Stmt* stmt;
  Scope* scope;  // where it was defined
};

// The `loop` of a for statement: a window on the items, which are drawn one at a time because the loop's condition may
// depend on what the body did.
struct Loop : Object {
  Loop() : Object(Type::kLoop) {}
  using Draw = std::function<absl::StatusOr<std::optional<Value>>()>;

  Draw draw;
  int64_t fixed_length = -1;  // known without drawing
  int64_t index0 = -1;
  int depth0 = 0;
  Value previous, current;
  std::vector<Value> ahead;  // drawn but not yet visited, in order
  size_t next_ahead = 0;
  std::optional<std::vector<Value>> last_changed;
  const Stmt* stmt = nullptr;
  Scope* scope = nullptr;  // around the loop
};

}  // namespace hysparse::jinja
