// SequenceKv: one sequence's share of the KV cache. Made by BlockManager::Admit and registered with it; must not
// outlive it. Engine thread only. Counts are in tokens whose K and V are cached, or will be by steps already planned.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "engine/kv/block_manager.h"

namespace hysparse {

class SequenceKv {
 public:
  SequenceKv(const SequenceKv&) = delete;
  SequenceKv& operator=(const SequenceKv&) = delete;
  ~SequenceKv();

  // How many of `wanted` tokens a step can append now; 0: none before somebody lets go of pages.
  int32_t MaxAppend(int32_t wanted);
  // Makes the pages of the next `count` <= MaxAppend(count) tokens addressable. False, changing nothing, when pages
  // that are being spilled stand in the way: the next plan can.
  bool BeginAppend(int32_t count);
  // The step that writes them is planned.
  void EndAppend();
  // Cuts the sequence back to num_tokens() - count. FailedPrecondition, changing nothing, when the window that the next
  // token would read is no longer held.
  absl::Status Truncate(int32_t count);

  int32_t num_tokens() const { return num_tokens_; }
  int32_t appending() const { return appending_; }  // besides, in the plan last made
  const BlockTable& global() const { return global_; }
  const BlockTable& window() const { return window_; }
  // Pages held or still promised, whichever is more.
  PageNeed claimed() const {
    return {std::max<int64_t>(promise_[0], global_.size()), std::max<int64_t>(promise_[1], window_.size())};
  }
  bool spilled() const { return spilled_; }
  // Of num_tokens(), those that window layers hold.
  int32_t window_tokens() const;
  // PlannedChunk's fields of the same names, for a chunk at num_tokens().
  int32_t write_from() const { return num_tokens_ < cached_tokens_ ? cached_tokens_ : 0; }
  int32_t window_from() const;
  int32_t cached_tokens() const { return cached_tokens_; }  // found in the prefix cache at admission

  // The row of the ranks' block tables, and how many of its logical pages they know.
  int32_t slot() const { return slot_; }
  void set_slot(int32_t slot) { slot_ = slot, sent_pages_ = 0; }
  int32_t sent_pages() const { return sent_pages_; }
  void MarkSent() { sent_pages_ = global_.size(); }

 private:
  friend class BlockManager;
  struct PendingSnapshot {  // window pages before a restart point whose step is not done yet
    int32_t position = 0;
    BlockTable pages;
  };

  explicit SequenceKv(BlockManager* manager);
  void Resize(absl::FunctionRef<void()> change);  // runs `change` on the tables and settles the promises
  void SetPromise(int64_t global, int64_t window);
  int64_t Owed(KvClass kv_class) const;
  bool CanAppend(int32_t count) const;
  bool GrowTo(KvClass kv_class, int64_t tokens);
  void SlideTo(int32_t first_token);
  void SnapshotAt(int32_t position);
  BlockTable& table(KvClass kv_class) { return kv_class == KvClass::kGlobal ? global_ : window_; }

  BlockManager* manager_;
  size_t live_index_;
  BlockTable global_, window_, host_global_, host_window_;
  BlockTable copied_;            // a snapshot's pages while it is admitted
  int64_t promise_[2] = {0, 0};  // pages held or still promised, whichever is more
  int32_t num_tokens_ = 0, appending_ = 0;
  int32_t slot_ = -1, sent_pages_ = 0;
  bool spilled_ = false;
  // Prefix cache.
  bool cached_ = false;
  CacheSalt salt_;
  int32_t prompt_tokens_ = 0;
  int32_t cached_tokens_ = 0;   // M: global pages below hold K and V of another sequence's making
  int32_t rebuilt_from_ = 0;    // window pages hold nothing before; 0: all that they should
  int32_t inserted_pages_ = 0;  // its first pages, which are in the cache …
  uint64_t inserted_hash_ = 0;  // … and their hash; the salt's seed for none
  std::vector<PendingSnapshot> snapshots_;
};

}  // namespace hysparse
