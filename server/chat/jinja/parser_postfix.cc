// What follows a primary: attributes, subscripts, calls, filters and tests.
#include "engine/base/result.h"
#include "server/chat/jinja/builtins.h"
#include "server/chat/jinja/cat.h"
#include "server/chat/jinja/parser_impl.h"

namespace hysparse::jinja {

Parser::Result Parser::Postfix(ExprPtr node) {
  while (true) {
    if (AtOp(".") || AtOp("[")) {
      HYSPARSE_ASSIGN_OR_RETURN(node, Subscript(std::move(node)));
    } else if (AtOp("(")) {
      HYSPARSE_ASSIGN_OR_RETURN(node, Call(std::move(node)));
    } else {
      return node;
    }
  }
}

Parser::Result Parser::FilterExpr(ExprPtr node) {
  while (true) {
    if (AtOp("|")) {
      HYSPARSE_ASSIGN_OR_RETURN(node, Filter(std::move(node)));
    } else if (AtName("is")) {
      HYSPARSE_ASSIGN_OR_RETURN(node, Test(std::move(node)));
    } else if (AtOp("(")) {
      HYSPARSE_ASSIGN_OR_RETURN(node, Call(std::move(node)));
    } else {
      return node;
    }
  }
}

Parser::Result Parser::Subscript(ExprPtr node) {
  const int line = Now().line;
  if (TakeOp("[")) return Bracketed(std::move(node), line);
  Next();
  if (Now().kind == TokenKind::kName) {
    ExprPtr attribute = New(Expr::Kind::kAttribute, line, Now().text);
    Next();
    attribute->children.push_back(std::move(node));
    return Finish(std::move(attribute));
  }
  if (Now().kind != TokenKind::kInteger) return Fail("expected name or number");
  HYSPARSE_ASSIGN_OR_RETURN(ExprPtr index, Primary());
  return Binary(Expr::Kind::kItem, line, std::move(node), std::move(index));
}

Parser::Result Parser::Bracketed(ExprPtr node, int line) {
  ExprPtr parts[3];
  bool slice = false;
  if (!AtOp(":")) {
    HYSPARSE_ASSIGN_OR_RETURN(parts[0], Expression());
  }
  for (int i = 1; i < 3 && TakeOp(":"); ++i) {
    slice = true;
    if (!AtOp(":") && !AtOp("]")) {
      HYSPARSE_ASSIGN_OR_RETURN(parts[i], Expression());
    }
  }
  if (slice) {
    HYSPARSE_RETURN_IF_ERROR(ExpectOp("]"));
    ExprPtr result = New(Expr::Kind::kSlice, line);
    result->children.push_back(std::move(node));
    for (ExprPtr& part : parts) result->children.push_back(std::move(part));
    return Finish(std::move(result));
  }
  if (AtOp(",")) {  // a tuple as key
    ExprPtr tuple = New(Expr::Kind::kTuple, line);
    tuple->children.push_back(std::move(parts[0]));
    while (TakeOp(",")) {
      HYSPARSE_ASSIGN_OR_RETURN(ExprPtr item, Expression());
      tuple->children.push_back(std::move(item));
    }
    HYSPARSE_ASSIGN_OR_RETURN(parts[0], Finish(std::move(tuple)));
  }
  HYSPARSE_RETURN_IF_ERROR(ExpectOp("]"));
  return Binary(Expr::Kind::kItem, line, std::move(node), std::move(parts[0]));
}

absl::Status Parser::Arguments(CallArgs* args) {
  HYSPARSE_RETURN_IF_ERROR(ExpectOp("("));
  const absl::Status invalid = Fail("invalid syntax for function call expression");
  bool first = true;
  while (!AtOp(")")) {
    if (!first) {
      HYSPARSE_RETURN_IF_ERROR(ExpectOp(","));
      if (AtOp(")")) break;
    }
    first = false;
    if (TakeOp("*")) {
      if (args->star != nullptr || args->star_star != nullptr) return invalid;
      HYSPARSE_ASSIGN_OR_RETURN(args->star, Expression());
    } else if (TakeOp("**")) {
      if (args->star_star != nullptr) return invalid;
      HYSPARSE_ASSIGN_OR_RETURN(args->star_star, Expression());
    } else if (Now().kind == TokenKind::kName && Ahead().kind == TokenKind::kOperator && Ahead().text == "=") {
      if (args->star_star != nullptr) return invalid;
      std::string name = Now().text;
      for (const auto& [known, value] : args->named) {
        if (known == name) return Fail(Cat("keyword argument repeated: ", name));
      }
      Next();
      Next();
      HYSPARSE_ASSIGN_OR_RETURN(ExprPtr value, Expression());
      args->named.emplace_back(std::move(name), std::move(value));
    } else {
      if (args->star != nullptr || args->star_star != nullptr || !args->named.empty()) return invalid;
      HYSPARSE_ASSIGN_OR_RETURN(ExprPtr value, Expression());
      args->positional.push_back(std::move(value));
    }
  }
  return ExpectOp(")");
}

Parser::Result Parser::Call(ExprPtr callee) {
  ExprPtr call = New(Expr::Kind::kCall, Now().line);
  call->children.push_back(std::move(callee));
  HYSPARSE_RETURN_IF_ERROR(Arguments(&call->args));
  return Finish(std::move(call));
}

absl::StatusOr<std::string> Parser::DottedName() {
  HYSPARSE_ASSIGN_OR_RETURN(std::string name, ExpectName());
  while (TakeOp(".")) {
    HYSPARSE_ASSIGN_OR_RETURN(const std::string part, ExpectName());
    name += Cat(".", part);
  }
  return name;
}

Parser::Result Parser::Filter(ExprPtr value, bool at_name) {
  while (at_name || TakeOp("|")) {
    at_name = false;
    const int line = Now().line;
    HYSPARSE_ASSIGN_OR_RETURN(std::string name, DottedName());
    if (conditionals_ == 0 && FindFilter(name) == nullptr) {
      return SyntaxError(line, Cat("No filter named '", name, "'."));
    }
    ExprPtr filter = New(Expr::Kind::kFilter, line, std::move(name));
    filter->children.push_back(std::move(value));
    if (AtOp("(")) HYSPARSE_RETURN_IF_ERROR(Arguments(&filter->args));
    HYSPARSE_ASSIGN_OR_RETURN(value, Finish(std::move(filter)));
  }
  return value;
}

bool Parser::TestTakesArgument() const {
  switch (Now().kind) {
    case TokenKind::kString:
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return true;
    case TokenKind::kName:
      return !AtName("else") && !AtName("or") && !AtName("and");
    default:
      return AtOp("[") || AtOp("{");
  }
}

Parser::Result Parser::Test(ExprPtr value) {
  const int line = Now().line;
  Next();
  const bool negated = TakeName("not");
  HYSPARSE_ASSIGN_OR_RETURN(std::string name, DottedName());
  if (conditionals_ == 0 && FindTest(name) == nullptr) {
    return SyntaxError(line, Cat("No test named '", name, "'."));
  }
  ExprPtr test = New(Expr::Kind::kTest, line, std::move(name));
  test->children.push_back(std::move(value));
  if (AtOp("(")) {
    HYSPARSE_RETURN_IF_ERROR(Arguments(&test->args));
  } else if (TestTakesArgument()) {
    if (AtName("is")) return Fail("You cannot chain multiple tests with is");
    HYSPARSE_ASSIGN_OR_RETURN(ExprPtr argument, Primary());
    HYSPARSE_ASSIGN_OR_RETURN(argument, Postfix(std::move(argument)));
    test->args.positional.push_back(std::move(argument));
  }
  HYSPARSE_ASSIGN_OR_RETURN(test, Finish(std::move(test)));
  if (!negated) return test;
  return Unary(Expr::Kind::kNot, line, std::move(test));
}

}  // namespace hysparse::jinja
