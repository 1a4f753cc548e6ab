#include <algorithm>
#include <cstdlib>

#include "absl/strings/numbers.h"
#include "engine/base/result.h"
#include "server/chat/jinja/builtins.h"
#include "server/chat/jinja/cat.h"
#include "server/chat/jinja/parser_impl.h"

namespace hysparse::jinja {
namespace {

constexpr int kMaxNesting = 300;  // brackets and blocks inside each other
constexpr int kMaxHeight = 200;   // of one expression's tree, chains such as a + b + c included

// Any integer literal that fits; false otherwise.
bool ReadInteger(const std::string& text, Int* value) {
  int base = 10;
  size_t i = 0;
  if (text.size() > 2 && text[0] == '0') {
    const char c = text[1] | 0x20;
    base = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 10;
    if (base != 10) i = 2;
  }
  *value = 0;
  for (; i < text.size(); ++i) {
    const char c = text[i] | 0x20;
    const int digit = c >= 'a' ? c - 'a' + 10 : text[i] - '0';
    if (__builtin_mul_overflow(*value, base, value) || __builtin_add_overflow(*value, digit, value)) return false;
  }
  return true;
}

}  // namespace

ExprPtr Parser::New(Expr::Kind kind, int line, std::string name) const {
  auto node = std::make_unique<Expr>();
  node->kind = kind;
  node->line = line;
  node->name = std::move(name);
  return node;
}

Parser::Result Parser::Finish(ExprPtr node) const {
  int below = 0;
  auto look = [&below](const ExprPtr& child) {
    if (child != nullptr) below = std::max(below, child->height);
  };
  for (const ExprPtr& child : node->children) look(child);
  for (const ExprPtr& child : node->args.positional) look(child);
  for (const auto& [name, child] : node->args.named) look(child);
  look(node->args.star);
  look(node->args.star_star);
  node->height = below + 1;
  if (node->height > kMaxHeight) return SyntaxError(node->line, "the expression is too deep");
  return node;
}

Parser::Result Parser::Unary(Expr::Kind kind, int line, ExprPtr operand) const {
  ExprPtr node = New(kind, line);
  node->children.push_back(std::move(operand));
  return Finish(std::move(node));
}

Parser::Result Parser::Binary(Expr::Kind kind, int line, ExprPtr left, ExprPtr right, std::string name) const {
  ExprPtr node = New(kind, line, std::move(name));
  node->children.push_back(std::move(left));
  node->children.push_back(std::move(right));
  return Finish(std::move(node));
}

Parser::Result Parser::Expression(bool conditional) {
  const Nesting nesting(this);
  if (depth_ > kMaxNesting) return Fail("too deeply nested");
  return conditional ? Conditional() : Or();
}

Parser::Result Parser::Conditional() {
  const int line = Now().line;
  HYSPARSE_ASSIGN_OR_RETURN(ExprPtr value, Or());
  while (TakeName("if")) {
    ExprPtr node = New(Expr::Kind::kConditional, line);
    ++conditionals_;
    auto condition = Or();
    HYSPARSE_RETURN_IF_ERROR(condition.status());
    node->children.push_back(*std::move(condition));
    node->children.push_back(std::move(value));
    node->children.push_back(nullptr);
    if (TakeName("else")) {
      HYSPARSE_ASSIGN_OR_RETURN(node->children[2], Expression());
    }
    --conditionals_;
    HYSPARSE_ASSIGN_OR_RETURN(value, Finish(std::move(node)));
  }
  return value;
}

Parser::Result Parser::Or() {
  HYSPARSE_ASSIGN_OR_RETURN(ExprPtr left, And());
  while (AtName("or")) {
    const int line = Now().line;
    Next();
    HYSPARSE_ASSIGN_OR_RETURN(ExprPtr right, And());
    HYSPARSE_ASSIGN_OR_RETURN(left, Binary(Expr::Kind::kOr, line, std::move(left), std::move(right)));
  }
  return left;
}

Parser::Result Parser::And() {
  HYSPARSE_ASSIGN_OR_RETURN(ExprPtr left, Not());
  while (AtName("and")) {
    const int line = Now().line;
    Next();
    HYSPARSE_ASSIGN_OR_RETURN(ExprPtr right, Not());
    HYSPARSE_ASSIGN_OR_RETURN(left, Binary(Expr::Kind::kAnd, line, std::move(left), std::move(right)));
  }
  return left;
}

Parser::Result Parser::Not() {
  if (!AtName("not")) return Compare();
  const Nesting nesting(this);
  if (depth_ > kMaxNesting) return Fail("too deeply nested");
  const int line = Now().line;
  Next();
  HYSPARSE_ASSIGN_OR_RETURN(ExprPtr operand, Not());
  return Unary(Expr::Kind::kNot, line, std::move(operand));
}

Parser::Result Parser::Compare() {
  const int line = Now().line;
  HYSPARSE_ASSIGN_OR_RETURN(ExprPtr first, Sum());
  ExprPtr node = New(Expr::Kind::kCompare, line);
  node->children.push_back(std::move(first));
  while (true) {
    std::string op;
    if (Now().kind == TokenKind::kOperator) {
      for (const std::string_view known : {"==", "!=", "<", "<=", ">", ">="}) {
        if (Now().text == known) op = known;
      }
    } else if (AtName("in")) {
      op = "in";
    } else if (AtName("not") && Ahead().kind == TokenKind::kName && Ahead().text == "in") {
      op = "not in";
      Next();
    }
    if (op.empty()) break;
    Next();
    HYSPARSE_ASSIGN_OR_RETURN(ExprPtr right, Sum());
    node->children.push_back(std::move(right));
    node->ops.push_back(std::move(op));
  }
  if (node->ops.empty()) return std::move(node->children[0]);
  return Finish(std::move(node));
}

Parser::Result Parser::Sum() {
  HYSPARSE_ASSIGN_OR_RETURN(ExprPtr left, Concat());
  while (AtOp("+") || AtOp("-")) {
    const Token op = Now();
    Next();
    HYSPARSE_ASSIGN_OR_RETURN(ExprPtr right, Concat());
    HYSPARSE_ASSIGN_OR_RETURN(left, Binary(Expr::Kind::kBinary, op.line, std::move(left), std::move(right), op.text));
  }
  return left;
}

Parser::Result Parser::Concat() {
  HYSPARSE_ASSIGN_OR_RETURN(ExprPtr first, Product());
  if (!AtOp("~")) return first;
  ExprPtr node = New(Expr::Kind::kConcat, Now().line);
  node->children.push_back(std::move(first));
  while (TakeOp("~")) {
    HYSPARSE_ASSIGN_OR_RETURN(ExprPtr next, Product());
    node->children.push_back(std::move(next));
  }
  return Finish(std::move(node));
}

Parser::Result Parser::Product() {
  HYSPARSE_ASSIGN_OR_RETURN(ExprPtr left, Power());
  while (AtOp("*") || AtOp("/") || AtOp("//") || AtOp("%")) {
    const Token op = Now();
    Next();
    HYSPARSE_ASSIGN_OR_RETURN(ExprPtr right, Power());
    HYSPARSE_ASSIGN_OR_RETURN(left, Binary(Expr::Kind::kBinary, op.line, std::move(left), std::move(right), op.text));
  }
  return left;
}

Parser::Result Parser::Power() {  // left-associative, unlike Python's
  HYSPARSE_ASSIGN_OR_RETURN(ExprPtr left, Sign());
  while (AtOp("**")) {
    const int line = Now().line;
    Next();
    HYSPARSE_ASSIGN_OR_RETURN(ExprPtr right, Sign());
    HYSPARSE_ASSIGN_OR_RETURN(left, Binary(Expr::Kind::kBinary, line, std::move(left), std::move(right), "**"));
  }
  return left;
}

Parser::Result Parser::Sign(bool filters) {
  const Nesting nesting(this);
  if (depth_ > kMaxNesting) return Fail("too deeply nested");
  const int line = Now().line;
  ExprPtr node;
  if (AtOp("-") || AtOp("+")) {
    const auto kind = AtOp("-") ? Expr::Kind::kNegative : Expr::Kind::kPositive;
    Next();
    HYSPARSE_ASSIGN_OR_RETURN(ExprPtr operand, Sign(false));
    HYSPARSE_ASSIGN_OR_RETURN(node, Unary(kind, line, std::move(operand)));
  } else {
    HYSPARSE_ASSIGN_OR_RETURN(node, Primary());
  }
  HYSPARSE_ASSIGN_OR_RETURN(node, Postfix(std::move(node)));
  if (filters) return FilterExpr(std::move(node));
  return node;
}

Parser::Result Parser::NameOrKeyword(bool namespaces) {
  const Token token = Now();
  Next();
  const std::string& name = token.text;
  ExprPtr node = New(Expr::Kind::kConst, token.line);
  if (name == "true" || name == "True" || name == "false" || name == "False") {
    node->constant = Value::OfBool(name == "true" || name == "True");
    return node;
  }
  if (name == "none" || name == "None") {
    node->constant = Value::OfNone();
    return node;
  }
  node->name = name;
  node->symbol = tree_.symbols.Intern(name);
  if (namespaces && TakeOp(".")) {
    node->kind = Expr::Kind::kNamespaceRef;
    HYSPARSE_ASSIGN_OR_RETURN(node->attribute, ExpectName());
    return node;
  }
  node->kind = Expr::Kind::kName;
  for (Signature* function : functions_) {
    function->uses_varargs |= name == "varargs";
    function->uses_kwargs |= name == "kwargs";
    function->uses_caller |= name == "caller";
  }
  return node;
}

Parser::Result Parser::Primary(bool namespaces) {
  const Token token = Now();
  ExprPtr node = New(Expr::Kind::kConst, token.line);
  switch (token.kind) {
    case TokenKind::kName:
      return NameOrKeyword(namespaces);
    case TokenKind::kString: {
      std::string text;
      for (; Now().kind == TokenKind::kString; Next()) text += Now().text;
      node->constant = Value::OfString(std::make_shared<const String>(Text(text, true), nullptr));
      return node;
    }
    case TokenKind::kInteger: {
      Int value;
      if (!ReadInteger(token.text, &value)) return Fail("the number is too large");
      node->constant = Value::OfInt(value);
      Next();
      return node;
    }
    case TokenKind::kFloat:
      node->constant = Value::OfFloat(std::strtod(token.text.c_str(), nullptr));
      Next();
      return node;
    case TokenKind::kOperator:
      if (token.text == "(") {
        Next();
        HYSPARSE_ASSIGN_OR_RETURN(node, TupleOf(false, true, TupleEnd::kDefault, true));
        HYSPARSE_RETURN_IF_ERROR(ExpectOp(")"));
        return node;
      }
      if (token.text == "[") return ListLiteral();
      if (token.text == "{") return DictLiteral();
      return Fail(Cat("unexpected '", token.text, "'"));
    case TokenKind::kEnd:
      return Fail("unexpected end of template");
    default:
      return Fail("expected an expression");
  }
}

bool Parser::AtTupleEnd(TupleEnd end) const {
  if (Now().kind == TokenKind::kVariableEnd || Now().kind == TokenKind::kBlockEnd || AtOp(")")) return true;
  return (end == TupleEnd::kIn && AtName("in")) || (end == TupleEnd::kRecursive && AtName("recursive"));
}

Parser::Result Parser::TupleOf(bool simple, bool conditional, TupleEnd end, bool parenthesised, bool namespaces) {
  ExprPtr tuple = New(Expr::Kind::kTuple, Now().line);
  const Nesting nesting(this);
  if (depth_ > kMaxNesting) return Fail("too deeply nested");
  bool comma = false;
  while (!AtTupleEnd(end)) {
    HYSPARSE_ASSIGN_OR_RETURN(ExprPtr item, simple ? Primary(namespaces) : Expression(conditional));
    tuple->children.push_back(std::move(item));
    if (!TakeOp(",")) break;
    comma = true;
  }
  if (!comma) {
    if (!tuple->children.empty()) return std::move(tuple->children[0]);
    if (!parenthesised) return Fail("expected an expression");
  }
  return Finish(std::move(tuple));
}

Parser::Result Parser::ListLiteral() {
  ExprPtr list = New(Expr::Kind::kList, Now().line);
  Next();
  while (!AtOp("]")) {
    if (!list->children.empty()) HYSPARSE_RETURN_IF_ERROR(ExpectOp(","));
    if (AtOp("]")) break;
    HYSPARSE_ASSIGN_OR_RETURN(ExprPtr item, Expression());
    list->children.push_back(std::move(item));
  }
  Next();
  return Finish(std::move(list));
}

Parser::Result Parser::DictLiteral() {
  ExprPtr dict = New(Expr::Kind::kDict, Now().line);
  Next();
  while (!AtOp("}")) {
    if (!dict->children.empty()) HYSPARSE_RETURN_IF_ERROR(ExpectOp(","));
    if (AtOp("}")) break;
    HYSPARSE_ASSIGN_OR_RETURN(ExprPtr key, Expression());
    HYSPARSE_RETURN_IF_ERROR(ExpectOp(":"));
    HYSPARSE_ASSIGN_OR_RETURN(ExprPtr value, Expression());
    dict->children.push_back(std::move(key));
    dict->children.push_back(std::move(value));
  }
  Next();
  return Finish(std::move(dict));
}

absl::Status Parser::Assignable(const Expr& target) const {
  if (target.kind == Expr::Kind::kNamespaceRef) return absl::OkStatus();
  if (target.kind == Expr::Kind::kName) return absl::OkStatus();
  if (target.kind != Expr::Kind::kTuple) return SyntaxError(target.line, "can't assign to this expression");
  for (const ExprPtr& child : target.children) HYSPARSE_RETURN_IF_ERROR(Assignable(*child));
  return absl::OkStatus();
}

Parser::Result Parser::Target(TupleEnd end, bool namespaces) {
  HYSPARSE_ASSIGN_OR_RETURN(ExprPtr target, TupleOf(true, true, end, false, namespaces));
  HYSPARSE_RETURN_IF_ERROR(Assignable(*target));
  return target;
}

}  // namespace hysparse::jinja
