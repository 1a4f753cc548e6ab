// The parser's state and its productions, split over parser_expr.cc (expressions) and parser.cc (statements). One per
// parse, one thread.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/chat/jinja/ast.h"
#include "server/chat/jinja/lexer.h"

namespace hysparse::jinja {

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens);
  absl::StatusOr<Tree> Run();

 private:
  using Result = absl::StatusOr<ExprPtr>;

  // What may end a list of expressions without brackets.
  enum class TupleEnd { kDefault, kIn, kRecursive };

  const Token& Now() const { return tokens_[at_]; }
  const Token& Ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  void Next() { at_ += at_ + 1 < tokens_.size(); }
  bool AtOp(std::string_view op) const { return Now().kind == TokenKind::kOperator && Now().text == op; }
  bool AtName(std::string_view name) const { return Now().kind == TokenKind::kName && Now().text == name; }
  bool TakeOp(std::string_view op);
  bool TakeName(std::string_view name);
  absl::Status ExpectOp(std::string_view op);
  absl::StatusOr<std::string> ExpectName();
  absl::Status Expect(TokenKind kind);
  absl::Status Fail(std::string_view what) const { return SyntaxError(Now().line, what); }

  ExprPtr New(Expr::Kind kind, int line, std::string name = "") const;
  // Takes the children's heights into account; fails when the tree grows too high to be walked.
  Result Finish(ExprPtr node) const;
  Result Unary(Expr::Kind kind, int line, ExprPtr operand) const;
  Result Binary(Expr::Kind kind, int line, ExprPtr left, ExprPtr right, std::string name = "") const;

  // Expressions, loosest first.
  Result Expression(bool conditional = true);
  Result Conditional();
  Result Or();
  Result And();
  Result Not();
  Result Compare();
  Result Sum();
  Result Concat();
  Result Product();
  Result Power();
  Result Sign(bool filters = true);
  Result Primary(bool namespaces = false);
  Result NameOrKeyword(bool namespaces);
  Result Postfix(ExprPtr node);
  Result FilterExpr(ExprPtr node);
  Result Subscript(ExprPtr node);
  Result Bracketed(ExprPtr node, int line);
  Result Call(ExprPtr callee);
  Result Filter(ExprPtr value, bool at_name = false);
  Result Test(ExprPtr value);
  Result TupleOf(bool simple, bool conditional, TupleEnd end, bool parenthesised, bool namespaces = false);
  Result ListLiteral();
  Result DictLiteral();
  Result Target(TupleEnd end = TupleEnd::kDefault, bool namespaces = false);
  absl::Status Assignable(const Expr& target) const;
  absl::Status Arguments(CallArgs* args);
  bool AtTupleEnd(TupleEnd end) const;
  bool TestTakesArgument() const;
  absl::StatusOr<std::string> DottedName();

  // Statements.
  absl::StatusOr<Body> Statements(std::initializer_list<std::string_view> ends);  // from a block's end to an end tag
  absl::Status Until(std::initializer_list<std::string_view> ends, Body* body);
  absl::StatusOr<StmtPtr> Statement();
  absl::StatusOr<StmtPtr> Print(int line);
  absl::StatusOr<StmtPtr> If(int line);
  absl::StatusOr<StmtPtr> For(int line);
  absl::StatusOr<StmtPtr> Set(int line);
  absl::StatusOr<StmtPtr> Macro(int line);
  absl::StatusOr<StmtPtr> CallBlock(int line);
  absl::StatusOr<StmtPtr> FilterBlock(int line);
  absl::StatusOr<StmtPtr> With(int line);
  absl::StatusOr<StmtPtr> Block(int line);
  absl::StatusOr<StmtPtr> Generation(int line);
  absl::Status Parameters(Signature* signature);
  absl::Status FunctionBody(std::string_view end, Stmt* stmt);

  struct Nesting {
    explicit Nesting(Parser* parser) : parser(parser) { ++parser->depth_; }
    ~Nesting() { --parser->depth_; }
    Parser* parser;
  };

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
  int loops_ = 0;         // for loops open in the current function: where break and continue may stand
  int conditionals_ = 0;  // an unknown filter or test below a condition is an error only when it is reached
  std::vector<Signature*> functions_;
  std::vector<std::string> blocks_;
  Tree tree_;
};

}  // namespace hysparse::jinja
