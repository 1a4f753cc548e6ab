// Heap: everything one render allocates, with the caps that keep a hostile template or request from exhausting the
// process. One per render, one thread. Every error is InvalidArgument.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/chat/jinja/value.h"

namespace hysparse::jinja {

struct Limits {
  int64_t steps = 20'000'000;       // evaluated nodes, touched items, and one per 64 bytes of text looked at
  int depth = 400;                  // nested evaluations (a macro call takes about six)
  size_t output_bytes = 64u << 20;  // of the rendered prompt
  size_t live_bytes = 256u << 20;   // strings and containers alive at one time
  int value_depth = 200;            // nesting of lists and dicts when printed, compared or hashed
};

class Heap {
 public:
  explicit Heap(const Limits& limits) : limits_(limits) {}
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;

  absl::Status Step(int64_t count = 1) {
    steps_ += count;
    if (steps_ > limits_.steps) return absl::InvalidArgumentError("the template takes too many steps");
    return absl::OkStatus();
  }
  absl::Status StepBytes(size_t bytes) { return Step(1 + static_cast<int64_t>(bytes / 64)); }
  // Asks before allocating: fails when `bytes` more would exceed the cap.
  absl::Status Reserve(size_t bytes) const {
    if (bytes > limits_.live_bytes || live_ > limits_.live_bytes - bytes) {
      return absl::InvalidArgumentError("the template needs too much memory");
    }
    return absl::OkStatus();
  }
  void Charge(size_t bytes) { live_ += bytes; }
  void Credit(size_t bytes) { live_ -= bytes; }

  absl::StatusOr<Value> NewString(Text text);
  absl::StatusOr<Value> NewString(std::string_view text, bool trusted) { return NewString(Text(text, trusted)); }
  absl::StatusOr<Value> NewList(std::vector<Value> items, bool tuple = false);
  absl::StatusOr<Dict*> NewDict();
  // Adds or replaces; TypeError for an unhashable key.
  absl::Status SetItem(Dict* dict, const Value& key, Value value);
  absl::Status AppendItem(List* list, Value value);

  // An object of type T with `bytes` of payload.
  template <typename T, typename... A>
  absl::StatusOr<T*> New(size_t bytes, A&&... args) {
    if (absl::Status status = Reserve(sizeof(T) + bytes); !status.ok()) return status;
    Charge(sizeof(T) + bytes);
    objects_.push_back(std::make_unique<T>(std::forward<A>(args)...));
    return static_cast<T*>(objects_.back().get());
  }

  const Limits& limits() const { return limits_; }

 private:
  const Limits limits_;
  int64_t steps_ = 0;
  size_t live_ = 0;
  std::vector<std::unique_ptr<Object>> objects_;
};

}  // namespace hysparse::jinja
