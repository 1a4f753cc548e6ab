#include "server/chat/jinja/heap.h"

#include "engine/base/result.h"
#include "server/chat/jinja/operators.h"

namespace hysparse::jinja {

String::String(Text value, Heap* owner) : text(std::move(value)), heap(owner) {
  if (heap == nullptr) return;
  charged = sizeof(String) + text.bytes();
  heap->Charge(charged);
}

String::~String() {
  if (heap != nullptr) heap->Credit(charged);
}

const Value* Dict::Find(const std::string& hash) const {
  auto it = index_.find(hash);
  return it == index_.end() ? nullptr : &items[it->second].second;
}

void Dict::Set(std::string hash, Value key, Value value) {
  auto [it, added] = index_.try_emplace(hash, items.size());
  if (!added) {
    items[it->second].second = std::move(value);
    return;
  }
  items.emplace_back(std::move(key), std::move(value));
  hashes.push_back(std::move(hash));
}

std::optional<Value> Dict::Remove(const std::string& hash) {
  auto it = index_.find(hash);
  if (it == index_.end()) return std::nullopt;
  const size_t at = it->second;
  Value value = std::move(items[at].second);
  index_.erase(it);
  items.erase(items.begin() + at);
  hashes.erase(hashes.begin() + at);
  for (size_t i = at; i < hashes.size(); ++i) index_[hashes[i]] = i;
  return value;
}

absl::StatusOr<Value> Heap::NewString(Text text) {
  HYSPARSE_RETURN_IF_ERROR(StepBytes(text.size()));
  HYSPARSE_RETURN_IF_ERROR(Reserve(sizeof(String) + text.bytes()));
  return Value::OfString(std::make_shared<const String>(std::move(text), this));
}

absl::StatusOr<Value> Heap::NewList(std::vector<Value> items, bool tuple) {
  HYSPARSE_RETURN_IF_ERROR(Step(static_cast<int64_t>(items.size())));
  HYSPARSE_ASSIGN_OR_RETURN(List * list, New<List>(items.size() * sizeof(Value), tuple));
  list->items = std::move(items);
  return Value::OfObject(list);
}

absl::StatusOr<Dict*> Heap::NewDict() { return New<Dict>(0); }

absl::Status Heap::SetItem(Dict* dict, const Value& key, Value value) {
  HYSPARSE_ASSIGN_OR_RETURN(std::string hash, HashKey(*this, key));
  const size_t bytes = 2 * sizeof(Value) + 3 * hash.size() + 64;
  HYSPARSE_RETURN_IF_ERROR(Reserve(bytes));
  const size_t before = dict->items.size();
  dict->Set(std::move(hash), key, std::move(value));
  if (dict->items.size() > before) Charge(bytes);
  return Step();
}

absl::Status Heap::AppendItem(List* list, Value value) {
  HYSPARSE_RETURN_IF_ERROR(Reserve(2 * sizeof(Value)));
  Charge(sizeof(Value));
  list->items.push_back(std::move(value));
  return Step();
}

}  // namespace hysparse::jinja
