#include "server/chat/jinja/parser.h"

#include <algorithm>

#include "engine/base/result.h"
#include "server/chat/jinja/cat.h"
#include "server/chat/jinja/parser_impl.h"

namespace hysparse::jinja {
namespace {

constexpr int kMaxBlocks = 60;  // statements inside each other

StmtPtr NewStmt(Stmt::Kind kind, int line) {
  auto stmt = std::make_unique<Stmt>();
  stmt->kind = kind;
  stmt->line = line;
  return stmt;
}

}  // namespace

Parser::Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {
  tree_.loop_symbol = tree_.symbols.Intern("loop");
  tree_.caller_symbol = tree_.symbols.Intern("caller");
  tree_.varargs_symbol = tree_.symbols.Intern("varargs");
  tree_.kwargs_symbol = tree_.symbols.Intern("kwargs");
}

bool Parser::TakeOp(std::string_view op) {
  if (!AtOp(op)) return false;
  Next();
  return true;
}

bool Parser::TakeName(std::string_view name) {
  if (!AtName(name)) return false;
  Next();
  return true;
}

absl::Status Parser::ExpectOp(std::string_view op) {
  if (TakeOp(op)) return absl::OkStatus();
  if (Now().kind == TokenKind::kEnd) return Fail(Cat("unexpected end of template, expected '", op, "'"));
  return Fail(Cat("expected '", op, "', got '", Now().text, "'"));
}

absl::StatusOr<std::string> Parser::ExpectName() {
  if (Now().kind != TokenKind::kName) return Fail(Cat("expected a name, got '", Now().text, "'"));
  std::string name = Now().text;
  Next();
  return name;
}

absl::Status Parser::Expect(TokenKind kind) {
  if (Now().kind != kind) {
    if (Now().kind == TokenKind::kEnd) return Fail("unexpected end of template");
    const std::string_view wanted = kind == TokenKind::kBlockEnd ? "%}" : "}}";
    return Fail(Cat("expected '", wanted, "', got '", Now().text, "'"));
  }
  Next();
  return absl::OkStatus();
}

absl::StatusOr<Tree> Parser::Run() {
  HYSPARSE_RETURN_IF_ERROR(Until({}, &tree_.body));
  return std::move(tree_);
}

absl::StatusOr<Body> Parser::Statements(std::initializer_list<std::string_view> ends) {
  TakeOp(":");
  HYSPARSE_RETURN_IF_ERROR(Expect(TokenKind::kBlockEnd));
  const Nesting nesting(this);
  if (depth_ > kMaxBlocks) return Fail("too deeply nested");
  Body body;
  HYSPARSE_RETURN_IF_ERROR(Until(ends, &body));
  if (Now().kind == TokenKind::kEnd) {
    return Fail(Cat("unexpected end of template, expected '", std::string(*ends.begin()), "'"));
  }
  return body;
}

absl::Status Parser::Until(std::initializer_list<std::string_view> ends, Body* body) {
  while (Now().kind != TokenKind::kEnd) {
    const Token token = Now();
    Next();
    if (token.kind == TokenKind::kData) {
      body->push_back(NewStmt(Stmt::Kind::kData, token.line));
      body->back()->data = Value::OfString(std::make_shared<const String>(Text(token.text, true), nullptr));
    } else if (token.kind == TokenKind::kVariableBegin) {
      body->push_back(NewStmt(Stmt::Kind::kPrint, token.line));
      HYSPARSE_ASSIGN_OR_RETURN(body->back()->value, TupleOf(false, true, TupleEnd::kDefault, false));
      HYSPARSE_RETURN_IF_ERROR(Expect(TokenKind::kVariableEnd));
    } else {  // a block begins: nothing else can stand between tags
      if (std::any_of(ends.begin(), ends.end(), [this](std::string_view end) { return AtName(end); })) {
        return absl::OkStatus();
      }
      HYSPARSE_ASSIGN_OR_RETURN(StmtPtr statement, Statement());
      body->push_back(std::move(statement));
      HYSPARSE_RETURN_IF_ERROR(Expect(TokenKind::kBlockEnd));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<StmtPtr> Parser::Statement() {
  if (Now().kind != TokenKind::kName) return Fail("tag name expected");
  const std::string tag = Now().text;
  const int line = Now().line;
  Next();
  if (tag == "if") return If(line);
  if (tag == "for") return For(line);
  if (tag == "set") return Set(line);
  if (tag == "macro") return Macro(line);
  if (tag == "call") return CallBlock(line);
  if (tag == "filter") return FilterBlock(line);
  if (tag == "with") return With(line);
  if (tag == "block") return Block(line);
  if (tag == "generation") return Generation(line);
  if (tag == "print") return Print(line);
  if (tag == "break" || tag == "continue") {
    if (loops_ == 0) return SyntaxError(line, Cat("'", tag, "' outside loop"));
    return NewStmt(tag == "break" ? Stmt::Kind::kBreak : Stmt::Kind::kContinue, line);
  }
  if (tag == "extends" || tag == "include" || tag == "import" || tag == "from") {
    return SyntaxError(line, Cat("'", tag, "' would read another template, which is not supported"));
  }
  return SyntaxError(line, Cat("Encountered unknown tag '", tag, "'."));
}

absl::StatusOr<StmtPtr> Parser::Print(int line) {
  StmtPtr scope = NewStmt(Stmt::Kind::kIf, line);  // several values: an `if` that always holds
  ExprPtr always = New(Expr::Kind::kConst, line);
  always->constant = Value::OfBool(true);
  Body body;
  while (Now().kind != TokenKind::kBlockEnd) {
    if (!body.empty()) HYSPARSE_RETURN_IF_ERROR(ExpectOp(","));
    body.push_back(NewStmt(Stmt::Kind::kPrint, line));
    HYSPARSE_ASSIGN_OR_RETURN(body.back()->value, Expression());
  }
  scope->branches.emplace_back(std::move(always), std::move(body));
  return scope;
}

absl::StatusOr<StmtPtr> Parser::If(int line) {
  StmtPtr stmt = NewStmt(Stmt::Kind::kIf, line);
  while (true) {
    HYSPARSE_ASSIGN_OR_RETURN(ExprPtr condition, TupleOf(false, false, TupleEnd::kDefault, false));
    ++conditionals_;
    auto body = Statements({"elif", "else", "endif"});
    --conditionals_;
    HYSPARSE_RETURN_IF_ERROR(body.status());
    stmt->branches.emplace_back(std::move(condition), *std::move(body));
    if (TakeName("elif")) continue;
    if (TakeName("else")) {
      ++conditionals_;
      auto otherwise = Statements({"endif"});
      --conditionals_;
      HYSPARSE_RETURN_IF_ERROR(otherwise.status());
      stmt->otherwise = *std::move(otherwise);
    }
    Next();
    return stmt;
  }
}

absl::StatusOr<StmtPtr> Parser::For(int line) {
  StmtPtr stmt = NewStmt(Stmt::Kind::kFor, line);
  HYSPARSE_ASSIGN_OR_RETURN(stmt->target, Target(TupleEnd::kIn));
  if (stmt->target->kind == Expr::Kind::kName && stmt->target->symbol == tree_.loop_symbol) {
    return SyntaxError(line, "Can't assign to special loop variable in for-loop target");
  }
  if (!TakeName("in")) return Fail("expected 'in'");
  HYSPARSE_ASSIGN_OR_RETURN(stmt->value, TupleOf(false, false, TupleEnd::kRecursive, false));
  if (TakeName("if")) {
    HYSPARSE_ASSIGN_OR_RETURN(stmt->test, Expression());
  }
  stmt->recursive = TakeName("recursive");
  ++loops_;
  HYSPARSE_ASSIGN_OR_RETURN(stmt->body, Statements({"endfor", "else"}));
  --loops_;
  if (TakeName("else")) {
    HYSPARSE_ASSIGN_OR_RETURN(stmt->otherwise, Statements({"endfor"}));
  }
  Next();
  return stmt;
}

absl::StatusOr<StmtPtr> Parser::Set(int line) {
  StmtPtr stmt = NewStmt(Stmt::Kind::kSet, line);
  HYSPARSE_ASSIGN_OR_RETURN(stmt->target, Target(TupleEnd::kDefault, true));
  if (TakeOp("=")) {
    HYSPARSE_ASSIGN_OR_RETURN(stmt->value, TupleOf(false, true, TupleEnd::kDefault, false));
    return stmt;
  }
  stmt->kind = Stmt::Kind::kSetBlock;
  HYSPARSE_ASSIGN_OR_RETURN(stmt->value, Filter(nullptr));
  HYSPARSE_ASSIGN_OR_RETURN(stmt->body, Statements({"endset"}));
  Next();
  return stmt;
}

absl::Status Parser::Parameters(Signature* signature) {
  HYSPARSE_RETURN_IF_ERROR(ExpectOp("("));
  while (!AtOp(")")) {
    if (!signature->names.empty()) HYSPARSE_RETURN_IF_ERROR(ExpectOp(","));
    HYSPARSE_ASSIGN_OR_RETURN(std::string name, ExpectName());
    if (std::count(signature->names.begin(), signature->names.end(), name) != 0) {
      return Fail(Cat("duplicate argument '", name, "'"));
    }
    if (TakeOp("=")) {
      HYSPARSE_ASSIGN_OR_RETURN(ExprPtr value, Expression());
      signature->defaults.push_back(std::move(value));
    } else if (!signature->defaults.empty()) {
      return Fail("non-default argument follows default argument");
    }
    signature->symbols.push_back(tree_.symbols.Intern(name));
    signature->names.push_back(std::move(name));
  }
  return ExpectOp(")");
}

// The body of a macro or call block: a function of its own, so that no break leaves it.
absl::Status Parser::FunctionBody(std::string_view end, Stmt* stmt) {
  const int loops = std::exchange(loops_, 0);
  functions_.push_back(&stmt->signature);
  auto body = Statements({end});
  functions_.pop_back();
  loops_ = loops;
  HYSPARSE_RETURN_IF_ERROR(body.status());
  stmt->body = *std::move(body);
  Next();
  return absl::OkStatus();
}

absl::StatusOr<StmtPtr> Parser::Macro(int line) {
  StmtPtr stmt = NewStmt(Stmt::Kind::kMacro, line);
  HYSPARSE_ASSIGN_OR_RETURN(stmt->name, ExpectName());
  stmt->symbol = tree_.symbols.Intern(stmt->name);
  HYSPARSE_RETURN_IF_ERROR(Parameters(&stmt->signature));
  HYSPARSE_RETURN_IF_ERROR(FunctionBody("endmacro", stmt.get()));
  return stmt;
}

absl::StatusOr<StmtPtr> Parser::CallBlock(int line) {
  StmtPtr stmt = NewStmt(Stmt::Kind::kCall, line);
  stmt->name = "caller";
  if (AtOp("(")) HYSPARSE_RETURN_IF_ERROR(Parameters(&stmt->signature));
  HYSPARSE_ASSIGN_OR_RETURN(stmt->value, Expression());
  if (stmt->value->kind != Expr::Kind::kCall) return SyntaxError(line, "expected call");
  HYSPARSE_RETURN_IF_ERROR(FunctionBody("endcall", stmt.get()));
  return stmt;
}

absl::StatusOr<StmtPtr> Parser::FilterBlock(int line) {
  StmtPtr stmt = NewStmt(Stmt::Kind::kFilter, line);
  HYSPARSE_ASSIGN_OR_RETURN(stmt->value, Filter(nullptr, true));
  HYSPARSE_ASSIGN_OR_RETURN(stmt->body, Statements({"endfilter"}));
  Next();
  return stmt;
}

absl::StatusOr<StmtPtr> Parser::With(int line) {
  StmtPtr stmt = NewStmt(Stmt::Kind::kWith, line);
  while (Now().kind != TokenKind::kBlockEnd) {
    if (!stmt->bindings.empty()) HYSPARSE_RETURN_IF_ERROR(ExpectOp(","));
    HYSPARSE_ASSIGN_OR_RETURN(ExprPtr target, Target());
    HYSPARSE_RETURN_IF_ERROR(ExpectOp("="));
    HYSPARSE_ASSIGN_OR_RETURN(ExprPtr value, Expression());
    stmt->bindings.emplace_back(std::move(target), std::move(value));
  }
  HYSPARSE_ASSIGN_OR_RETURN(stmt->body, Statements({"endwith"}));
  Next();
  return stmt;
}

absl::StatusOr<StmtPtr> Parser::Block(int line) {
  StmtPtr stmt = NewStmt(Stmt::Kind::kBlock, line);
  HYSPARSE_ASSIGN_OR_RETURN(stmt->name, ExpectName());
  if (std::count(blocks_.begin(), blocks_.end(), stmt->name) != 0) {
    return SyntaxError(line, Cat("block '", stmt->name, "' defined twice"));
  }
  blocks_.push_back(stmt->name);
  const bool scoped = TakeName("scoped");
  if (scoped) stmt->kind = Stmt::Kind::kScope;
  const int loops = std::exchange(loops_, 0);
  auto body = Statements({"endblock"});
  loops_ = loops;
  HYSPARSE_RETURN_IF_ERROR(body.status());
  stmt->body = *std::move(body);
  Next();
  TakeName(stmt->name);
  return stmt;
}

absl::StatusOr<StmtPtr> Parser::Generation(int line) {
  StmtPtr stmt = NewStmt(Stmt::Kind::kScope, line);
  HYSPARSE_RETURN_IF_ERROR(FunctionBody("endgeneration", stmt.get()));
  return stmt;
}

absl::StatusOr<Tree> Parse(std::string_view source) {
  HYSPARSE_ASSIGN_OR_RETURN(std::vector<Token> tokens, Tokenize(source));
  return Parser(std::move(tokens)).Run();
}

}  // namespace hysparse::jinja
