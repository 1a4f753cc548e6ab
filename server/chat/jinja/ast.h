// The tree of a parsed template. Built once by the parser, immutable afterwards, shared by all renders and threads.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/chat/jinja/value.h"

namespace hysparse::jinja {

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

// Arguments of a call, filter or test: f(a, k=b, *c, **d).
struct CallArgs {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr star, star_star;
};

struct Expr {
  enum class Kind {
    kConst,
    kName,
    kList,
    kTuple,
    kDict,  // children: key, value, key, value, …
    kAttribute,
    kItem,   // a[b]
    kSlice,  // children: object, start, stop, step; the last three may be null
    kCall,
    kFilter,  // children: value (null at the head of a filter block)
    kTest,
    kNegative,
    kPositive,
    kNot,
    kBinary,   // name: + - * / // % **
    kConcat,   // ~
    kCompare,  // ops between children; chains as in Python
    kAnd,
    kOr,
    kConditional,  // children: condition, then, else (may be null)
    kNamespaceRef  // assignment target only: name.attribute
  };

  Kind kind;
  int line;
  int height = 1;         // of the tree below, for the parser's limit
  std::string name;       // variable, attribute, filter, test or operator
  std::string attribute;  // of kNamespaceRef
  int symbol = -1;        // of kName, kNamespaceRef: the variable's number
  Value constant;
  std::vector<ExprPtr> children;
  std::vector<std::string> ops;
  CallArgs args;
};

struct Stmt;
using StmtPtr = std::unique_ptr<Stmt>;
using Body = std::vector<StmtPtr>;

struct Signature {
  std::vector<std::string> names;
  std::vector<int> symbols;
  std::vector<ExprPtr> defaults;  // of the last parameters
  bool uses_varargs = false, uses_kwargs = false, uses_caller = false;
};

struct Stmt {
  enum class Kind {
    kData,
    kPrint,
    kIf,        // branches; otherwise
    kFor,       // target, value, test (may be null); body; otherwise
    kSet,       // target = value
    kSetBlock,  // target, filter (may be null); body
    kFilter,    // value is a chain of kFilter; body
    kMacro,     // name, signature; body
    kCall,      // value is a kCall; signature, body: the caller
    kWith,      // targets = values; body
    kScope,     // {% generation %}: body in a scope of its own
    kBlock,     // {% block %}: body, seeing the top level only
    kBreak,
    kContinue
  };

  Kind kind;
  int line;
  std::string name;
  int symbol = -1;
  Value data;
  ExprPtr target, value, test;
  std::vector<std::pair<ExprPtr, Body>> branches;
  std::vector<std::pair<ExprPtr, ExprPtr>> bindings;  // of kWith
  Signature signature;
  bool recursive = false;
  Body body, otherwise;
};

// Variables are numbered once, at parse time.
class Symbols {
 public:
  int Intern(const std::string& name) {
    auto [it, added] = numbers_.try_emplace(name, static_cast<int>(numbers_.size()));
    return it->second;
  }
  int Find(const std::string& name) const {  // -1: the template never names it
    auto it = numbers_.find(name);
    return it == numbers_.end() ? -1 : it->second;
  }

 private:
  absl::flat_hash_map<std::string, int> numbers_;
};

struct Tree {
  Body body;
  Symbols symbols;
  int loop_symbol, caller_symbol, varargs_symbol, kwargs_symbol;
};

}  // namespace hysparse::jinja
