// BlockManager: admission to the KV cache, the block tables of the sequences in it, the prefix cache and the host arena
// that preempted sequences spill to. Engine thread only; knows no clock and no model, only a KvLayout.
//
//   BlockManager blocks(options);
//   if (std::unique_ptr<SequenceKv> kv = blocks.Admit(request)) {  // promises pages; a cached prefix is in it already
//     int32_t n = kv->MaxAppend(chunk);                            // what one step may append now
//     kv->BeginAppend(n);  …plan the step…  kv->EndAppend();       // at the head of the next plan: windows slide
//     blocks.Commit(*kv, …);                                       // the step is done: others find its pages
//   }                                                              // dropping it releases everything
//
// Global pages stay until the sequence ends. Window pages slide: before a step those go that its first token no longer
// reads, after it those wholly before the last `window` tokens; a page is immutable once full. Steps run in the order
// of their plans, so a page freed while planning one step may be written by the next, whatever runs meanwhile.
//
// A *promise* sets pages aside for a sequence that does not hold them yet. Beyond its promise a sequence takes what
// nobody else was promised, and when there is nothing, somebody must be spilled (the scheduler's choice).
//
// A cached prefix of M tokens is continued from its nearest snapshot, or by a *rebuild*: its last rebuild_tokens tokens
// run again with the full layers' cached K and V, which fills the window layers' pages; rows before M are not written
// to global pages. Source: the HySparse specification, section 3, and residency.h on the bound.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "engine/kv/arena.h"
#include "engine/kv/prefix_cache.h"
#include "engine/kv/prefix_stats.h"
#include "engine/kv/room.h"
#include "engine/schedule/step_plan.h"

namespace hysparse {

class SequenceKv;

struct BlockManagerOptions {
  KvLayout layout;
  ArenaLayout device;
  ArenaLayout host;            // slabs 0: nothing can be spilled
  int64_t rebuild_tokens = 0;  // RebuildTokens(spec)
  uint64_t hash_key = 0;       // secret, drawn at start
};

// What a sequence brings to Admit or Return: all tokens that it knows, and what it will need.
struct KvRequest {
  std::span<const int32_t> tokens;   // those whose K and V are to be had, then at least one more
  std::span<const uint64_t> hashes;  // PrefixHash::Pages(salt, tokens), or more
  CacheSalt salt;
  bool cached = false;        // find and leave pages in the prefix cache
  int32_t prompt_tokens = 0;  // a restart point
  int64_t promise = 0;        // tokens that pages are promised for, at least tokens.size()
};

using TokenAt = absl::FunctionRef<int32_t(int32_t position)>;

class BlockManager {
 public:
  explicit BlockManager(const BlockManagerOptions& options);
  BlockManager(const BlockManager&) = delete;
  BlockManager& operator=(const BlockManager&) = delete;

  // OK when a sequence of `tokens` tokens fits into the empty cache; InvalidArgument with the numbers otherwise.
  absl::Status CanEverFit(int64_t tokens) const;
  // Null when the promise is not to be had now; `need` says what it lacked: to be asked again when CanProvide(*need).
  std::unique_ptr<SequenceKv> Admit(const KvRequest& request, PageNeed* need);

  // Every copy and table change from here on belongs to the plan of `step`, which TakeCopies completes.
  void BeginPlan(uint64_t step);
  void TakeCopies(StepPlan& plan);
  // The step is done, and so are its copies.
  void CompleteStep(uint64_t step);

  // Moves all pages of a sequence to the host; it holds none on the device afterwards. False, changing nothing, when
  // the host arena lacks the room or the plan moves pages already.
  bool Spill(SequenceKv& kv);
  // Takes a spilled sequence's pages back, found in the prefix cache or copied. False, changing nothing, when the
  // promise is not to be had now. The next plan may use it.
  bool Return(SequenceKv& kv, const KvRequest& request);

  // The sequence's first `computed` tokens are computed by steps that are done: leaves whole pages in the cache.
  void Commit(SequenceKv& kv, int32_t computed, TokenAt token);
  // Hands the windows of restart points among them to the cache, which a plan does that takes note of them after
  // Commit: until then their pages cannot be had by others.
  void KeepSnapshots(SequenceKv& kv, int32_t computed);
  // Commit before it ends: keeps the windows of its last restart point too.
  void Retire(SequenceKv& kv, int32_t computed, TokenAt token);

  // Whether the plan moves pages, which excludes spilling in it.
  bool moving() const { return !moves_.empty(); }

  // What can be had beyond all promises.
  KvRoom room() const;
  bool CanProvide(const PageNeed& need) const { return room().CanProvide(need); }

  const Arena& arena() const { return arena_; }
  const Arena& host() const { return host_; }
  const KvLayout& layout() const { return layout_; }
  const PrefixHash& hash() const { return cache_.hash(); }
  const PrefixStats& prefix_stats() const { return stats_; }
  int64_t spilled_bytes_total() const { return spilled_bytes_total_; }
  int64_t promised(KvClass kv_class) const { return promised_[static_cast<size_t>(kv_class)]; }

  // Conservation in both arenas and of promises. O(pages): for debug builds and tests.
  absl::Status Check() const;

 private:
  friend class SequenceKv;
  struct Transit {  // until a step is done
    uint64_t step = 0;
    std::vector<PageCopy> spilled;     // device pages
    std::vector<BlockTable> returned;  // host pages
  };

  std::optional<BlockRef> Allocate(KvClass kv_class);
  bool ReclaimSlab(KvClass from);
  void MovePage(KvClass kv_class, int32_t page);
  bool TakePromise(SequenceKv& kv, int64_t tokens, PageNeed* need);
  // Shares the pages of the request's cached prefix.
  PrefixMatch SharePrefix(SequenceKv& kv, const KvRequest& request);
  // Where an admitted sequence starts: behind the nearest snapshot, if there is one near enough or none is needed, or
  // with a rebuild.
  bool StartAtSnapshot(SequenceKv& kv);
  void StartWithRebuild(SequenceKv& kv);
  bool CopyWindow(SequenceKv& kv);
  void CountPrefix(const KvRequest& request, const SequenceKv& kv, PrefixMiss miss);
  bool TakeReturnPages(SequenceKv& kv, KvClass kv_class);
  void ListReturns(SequenceKv& kv, KvClass kv_class, int32_t found);
  void SpillPages(SequenceKv& kv, KvClass kv_class);
  Transit& InTransit();
  void NoteLogicalPage(KvClass kv_class, int32_t page, int32_t logical_page) {
    logical_page_[static_cast<size_t>(kv_class)][page] = logical_page;
  }
  absl::Status CheckArena(const Arena& arena, bool host) const;

  KvLayout layout_;
  int64_t rebuild_tokens_;
  Arena arena_, host_;
  PrefixCache cache_;
  PrefixStats stats_;
  std::vector<SequenceKv*> live_;
  int64_t promised_[2] = {0, 0};          // pages promised and not held, by class
  std::vector<int32_t> logical_page_[2];  // of each page that is owned: the same in every table that holds it
  std::vector<PageCopy> spills_, moves_, returns_;
  std::vector<TableUpdate> updates_;
  std::vector<Transit> transit_;
  uint64_t step_ = 0;
  int64_t spilled_bytes_total_ = 0;
};

}  // namespace hysparse
