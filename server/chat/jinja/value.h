// Values of a running template, with Python's types and meanings. A Value is small and copied freely; strings are
// shared and immutable, containers belong to the render's Heap and live until it ends (so a list that holds itself is
// no leak). Used by one thread; only the constants of a parsed template are shared between threads, and they are
// immutable.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "server/chat/jinja/text.h"

namespace hysparse::jinja {

using Int = __int128;  // room for every 64-bit number a client may send; beyond it arithmetic is an error

class Heap;
struct Object;
struct List;
struct Dict;

// A shared immutable string, charged to its heap while it lives.
struct String {
  String(Text value, Heap* owner);
  ~String();
  String(const String&) = delete;
  String& operator=(const String&) = delete;

  Text text;
  Heap* heap;
  size_t charged = 0;
};

enum class Kind { kMissing, kUndefined, kNone, kBool, kInt, kFloat, kString, kObject };

class Value {
 public:
  Value() = default;                            // missing: an argument that was not given
  static Value OfUndefined(std::string what) {  // what: the message of the error that using it raises
    Value value(Kind::kUndefined, true);
    value.shared_ = std::make_shared<const std::string>(std::move(what));
    return value;
  }
  static Value OfNone(bool trusted = true) { return Value(Kind::kNone, trusted); }
  static Value OfBool(bool truth, bool trusted = true) {
    Value value(Kind::kBool, trusted);
    value.integer_ = truth;
    return value;
  }
  static Value OfInt(Int number, bool trusted = true) {
    Value value(Kind::kInt, trusted);
    value.integer_ = number;
    return value;
  }
  static Value OfFloat(double number, bool trusted = true) {
    Value value(Kind::kFloat, trusted);
    value.real_ = number;
    return value;
  }
  static Value OfString(std::shared_ptr<const String> text) {
    Value value(Kind::kString, true);
    value.shared_ = std::move(text);
    return value;
  }
  static Value OfObject(Object* object) {
    Value value(Kind::kObject, true);
    value.object_ = object;
    return value;
  }

  Kind kind() const { return kind_; }
  bool is(Kind wanted) const { return kind_ == wanted; }
  bool missing() const { return is(Kind::kMissing); }
  bool undefined() const { return is(Kind::kUndefined); }
  bool none() const { return is(Kind::kNone); }
  bool string() const { return is(Kind::kString); }
  bool integral() const { return is(Kind::kInt) || is(Kind::kBool); }  // Python's bool is an int
  bool number() const { return integral() || is(Kind::kFloat); }

  bool boolean() const { return integer_ != 0; }
  Int integer() const { return integer_; }
  double real() const { return is(Kind::kFloat) ? real_ : static_cast<double>(integer_); }
  const Text& text() const { return static_cast<const String*>(shared_.get())->text; }
  const std::string& str() const { return text().str(); }
  const std::string& what() const { return *static_cast<const std::string*>(shared_.get()); }
  Object* object() const { return object_; }
  template <typename T>
  T* as() const;  // the object as a T, else null

  // Of a number, bool or None: whether its printed form is the template's own. A string carries this per byte.
  bool trusted() const { return trusted_; }

 private:
  Value(Kind kind, bool trusted) : kind_(kind), trusted_(trusted) {}

  Kind kind_ = Kind::kMissing;
  bool trusted_ = true;
  Int integer_ = 0;
  double real_ = 0;
  Object* object_ = nullptr;
  std::shared_ptr<const void> shared_;  // the String, or the message of an undefined value
};

struct Args {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

enum class Type { kList, kTuple, kDict, kDictView, kRange, kIterator, kNamespace, kFunction, kMacro, kLoop };

struct Object {
  explicit Object(Type type) : type(type) {}
  virtual ~Object() = default;
  const Type type;
  bool trusted = true;  // whether the punctuation of its printed form is the template's own
};

struct List : Object {  // list and tuple
  explicit List(bool tuple) : Object(tuple ? Type::kTuple : Type::kList) {}
  std::vector<Value> items;
  bool group = false;  // a pair made by groupby, which answers to .grouper and .list
};

// Insertion-ordered; keys are any hashable values, equal as in Python (1 == 1.0 == True).
struct Dict : Object {
  Dict() : Object(Type::kDict) {}
  const Value* Find(const std::string& hash) const;
  void Set(std::string hash, Value key, Value value);
  std::optional<Value> Remove(const std::string& hash);

  std::vector<std::pair<Value, Value>> items;
  std::vector<std::string> hashes;  // parallel to items

 private:
  absl::flat_hash_map<std::string, size_t> index_;
};

struct DictView : Object {
  enum class Part { kKeys, kValues, kItems };
  DictView(Dict* dict, Part part) : Object(Type::kDictView), dict(dict), part(part) {}
  Dict* dict;
  Part part;
};

struct Range : Object {
  Range(int64_t start, int64_t stop, int64_t step, int64_t count)
      : Object(Type::kRange), start(start), stop(stop), step(step), count(count) {}
  int64_t start, stop, step, count;
};

// What Python's generators are: consumed once, made when first asked.
struct Iterator : Object {
  using Make = std::function<absl::StatusOr<std::vector<Value>>()>;
  explicit Iterator(Make make) : Object(Type::kIterator), make(std::move(make)) {}
  Make make;  // empty once `items` is there
  std::vector<Value> items;
  size_t next = 0;
};

struct Namespace : Object {
  Namespace() : Object(Type::kNamespace) {}
  Dict* values = nullptr;
};

struct Function : Object {
  using Body = std::function<absl::StatusOr<Value>(Args&)>;
  Function(std::string name, Body body) : Object(Type::kFunction), name(std::move(name)), body(std::move(body)) {}
  std::string name;
  Body body;
};

template <typename T>
T* Value::as() const {
  return is(Kind::kObject) ? dynamic_cast<T*>(object()) : nullptr;
}

}  // namespace hysparse::jinja
