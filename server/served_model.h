// ServedModel: what the front ends need of a loaded model. Made by main once everything is loaded, then read by any
// thread; destroying it stops the engine.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/model/model_spec.h"
#include "engine/text/tokenizer.h"
#include "server/chat/chat_template.h"

namespace hysparse {

struct ServedModel {
  std::vector<std::string> names;  // the first is the id in answers
  int64_t created = 0;             // Unix seconds
  ModelSpec spec;
  int32_t max_model_len = 0;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const ChatTemplate> chat_template;  // null: the model has none, chat answers 400
  KvLayout kv_layout;                                 // of a rank
  std::unique_ptr<Engine> engine;                     // started

  const std::string& id() const { return names.front(); }
  bool Answers(const std::string& name) const { return std::find(names.begin(), names.end(), name) != names.end(); }
};

// Where the model appears once it is loaded: the server answers probes long before. Any thread.
class ModelSlot {
 public:
  void Set(std::shared_ptr<const ServedModel> model) {
    std::lock_guard lock(mutex_);
    model_.swap(model);
  }
  std::shared_ptr<const ServedModel> Get() const {  // null while loading
    std::lock_guard lock(mutex_);
    return model_;
  }

 private:
  mutable std::mutex mutex_;  // guards the pointer only
  std::shared_ptr<const ServedModel> model_;
};

}  // namespace hysparse
