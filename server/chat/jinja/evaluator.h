// Evaluator: walks a parsed template with one set of variables. One per render, one thread; lives as long as its
// values. Every error is InvalidArgument: what the template raised, what Python would have raised, or the cap that was
// reached.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "server/chat/jinja/ast.h"
#include "server/chat/jinja/builtins.h"
#include "server/chat/jinja/heap.h"
#include "server/chat/jinja/macro.h"

namespace hysparse::jinja {

class Evaluator {
 public:
  using WallClock = std::chrono::system_clock;

  Evaluator(const Tree& tree, Heap& heap, WallClock::time_point now);

  // Sets a variable of the context; ignored when the template never names it.
  void SetVariable(const std::string& name, Value value);
  absl::StatusOr<Text> Run();

  Heap& heap() { return heap_; }
  WallClock::time_point now() const { return now_; }

  absl::StatusOr<Value> GetItem(const Value& object, const Value& key);
  absl::StatusOr<Value> GetAttribute(const Value& object, const std::string& name);
  absl::StatusOr<Value> Call(const Value& callee, Args& args);
  absl::StatusOr<Value> CallFilter(std::string_view name, Args& args);
  absl::StatusOr<Value> CallTest(std::string_view name, Args& args);
  absl::StatusOr<Value> NewString(Text text) { return heap_.NewString(std::move(text)); }

 private:
  enum class Flow { kOn, kBreak, kContinue };

  // Counts a step and a level of nesting for as long as it lives.
  class Level {
   public:
    explicit Level(Evaluator* evaluator) : evaluator_(evaluator) { ++evaluator_->depth_; }
    ~Level() { --evaluator_->depth_; }
    absl::Status Check() const;

   private:
    Evaluator* evaluator_;
  };

  // Statements (statements.cc).
  absl::StatusOr<Flow> Execute(const Body& body, Scope* scope, Text* out);
  absl::StatusOr<Flow> Execute(const Stmt& stmt, Scope* scope, Text* out);
  absl::Status Print(const Value& value, Text* out);
  absl::StatusOr<Flow> If(const Stmt& stmt, Scope* scope, Text* out);
  absl::StatusOr<Flow> With(const Stmt& stmt, Scope* scope, Text* out);
  absl::StatusOr<Flow> Capture(const Stmt& stmt, Scope* scope, Text* out);
  absl::Status CallBlock(const Stmt& stmt, Scope* scope, Text* out);
  absl::Status DefineMacro(const Stmt& stmt, Scope* scope);
  absl::Status Assign(const Expr& target, const Value& value, Scope* scope);
  absl::Status Unpack(const Expr& target, const Value& value, Scope* scope);
  absl::StatusOr<Scope*> NewScope(Scope* parent);

  // Loops (loops.cc).
  absl::StatusOr<Flow> For(const Stmt& stmt, Scope* scope, Text* out);
  absl::StatusOr<Flow> RunLoop(const Stmt& stmt, const Value& items, int depth0, Scope* scope, Text* out);
  absl::StatusOr<Loop::Draw> DrawFrom(const Stmt& stmt, const Value& items, Scope* scope);
  absl::StatusOr<bool> Advance(Loop* loop);
  absl::StatusOr<const Value*> Peek(Loop* loop);
  absl::StatusOr<int64_t> LoopLength(Loop* loop);
  absl::StatusOr<Value> LoopAttribute(Loop* loop, const std::string& name);
  absl::StatusOr<Value> LoopMethod(Loop* loop, const std::string& name);

  // Macros (calls.cc).
  absl::StatusOr<Value> CallMacro(const Macro& macro, Args& args);
  absl::Status BindParameters(const Macro& macro, Args& args, Scope* scope);
  absl::Status BindExtras(const Macro& macro, Args& args, Scope* scope);
  absl::StatusOr<Args> Arguments(const CallArgs& args, Scope* scope, Value first = Value());
  absl::StatusOr<Value> CallExpr(const Expr& expr, Scope* scope, std::pair<std::string, Value>* extra = nullptr);
  absl::StatusOr<Value> FilterChain(const Expr& expr, Value head, Scope* scope);

  // Expressions (expressions.cc).
  absl::StatusOr<Value> Eval(const Expr& expr, Scope* scope);
  absl::StatusOr<Value> Name(const Expr& expr, Scope* scope);
  absl::StatusOr<Value> ListExpr(const Expr& expr, Scope* scope);
  absl::StatusOr<Value> DictExpr(const Expr& expr, Scope* scope);
  absl::StatusOr<Value> SliceExpr(const Expr& expr, Scope* scope);
  absl::StatusOr<Value> ConcatExpr(const Expr& expr, Scope* scope);
  absl::StatusOr<Value> CompareExpr(const Expr& expr, Scope* scope);
  absl::StatusOr<bool> CompareOne(std::string_view op, const Value& left, const Value& right);
  absl::StatusOr<Value> Logic(const Expr& expr, Scope* scope);
  absl::StatusOr<Value> ConditionalExpr(const Expr& expr, Scope* scope);
  absl::StatusOr<Value> FilterExpr(const Expr& expr, Scope* scope);
  absl::StatusOr<Value> TestExpr(const Expr& expr, Scope* scope);
  absl::StatusOr<Value> ItemOf(const Value& object, const Value& key);

  const Tree& tree_;
  Heap& heap_;
  const WallClock::time_point now_;
  int depth_ = 0;
  std::vector<std::unique_ptr<Scope>> scopes_;  // those that outlive their block: captured by a macro
  Scope context_;                               // globals and variables
  Scope root_;
};

// range, namespace, dict, raise_exception, strftime_now, joiner.
void SetGlobals(Evaluator* evaluator);

}  // namespace hysparse::jinja
