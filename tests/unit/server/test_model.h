// A served model for the front ends' tests: the real engine over an executor that says a given text, a byte-level
// tokenizer (id = byte; 256 … 259 are special) and a ChatML template.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "server/served_model.h"

namespace hysparse {

constexpr int32_t kBos = 256, kEos = 257, kImStart = 258, kImEnd = 259, kTestVocab = 260;

// What the model says, shared with the test; the engine thread reads it.
struct Script {
  std::vector<std::string> answers = {"Hello world"};  // of choice i: answers[i % size]
  bool endless = false;                                // the answer again and again instead of a stop token
  std::function<void()> before_step;                   // runs on the engine thread; may block or sleep
  absl::Status fail;                                   // what every step returns, unless OK
  std::atomic<int> steps{0};
};

// tokenizer.json of a byte-level BPE without merges.
std::shared_ptr<const Tokenizer> ByteTokenizer();

std::unique_ptr<ServedModel> MakeTestModel(std::shared_ptr<Script> script, EngineObserver* observer = nullptr,
                                           int32_t max_model_len = 512);

// "<|im_start|>user\nhi<|im_end|>\n…" as ids.
std::vector<int32_t> ByteIds(const std::string& text);

// A gate that a script's before_step waits at: Open lets everything pass. Declared before the server, whose engine
// thread may still be inside Wait when the test's last line has run.
class StepGate {
 public:
  void Wait() {
    std::unique_lock lock(mutex_);
    ++arrived_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_ || allowed_ > 0; });
    if (!open_) --allowed_;
  }
  void Allow(int steps) {
    std::lock_guard lock(mutex_);
    allowed_ += steps;
    changed_.notify_all();
  }
  void Open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void AwaitArrival(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return arrived_ >= count; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int allowed_ = 0, arrived_ = 0;
  bool open_ = false;
};

}  // namespace hysparse
