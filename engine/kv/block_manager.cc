#include "engine/kv/block_manager.h"

#include <algorithm>
#include <cassert>
#include <ranges>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/ceil_div.h"
#include "engine/kv/sequence_kv.h"

namespace hysparse {
namespace {

KvClass Other(KvClass kv_class) { return kv_class == KvClass::kGlobal ? KvClass::kWindow : KvClass::kGlobal; }

}  // namespace

BlockManager::BlockManager(const BlockManagerOptions& options)
    : layout_(options.layout),
      rebuild_tokens_(options.rebuild_tokens),
      arena_(options.device),
      host_(options.host),
      cache_(&arena_,
             PrefixHash(options.layout.global.layers > 0 ? options.layout.global.page_tokens : 0, options.hash_key)) {
  for (const KvClass kv_class : kKvClasses) {
    logical_page_[static_cast<size_t>(kv_class)].resize(static_cast<size_t>(options.device.page_ids(kv_class)));
  }
}

absl::Status BlockManager::CanEverFit(int64_t tokens) const {
  const PageNeed need = NeedOf(layout_, tokens);
  const ArenaLayout& arena = arena_.layout();
  if (EmptyRoom(arena).CanProvide(need)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("a sequence of ", tokens, " tokens needs ", need.global, " global and ", need.window,
                   " window KV pages (of ", layout_.global.page_tokens, " and ", layout_.window.page_tokens,
                   " tokens), ", need.global * arena.global.page_stride + need.window * arena.window.page_stride,
                   " bytes in all; the KV cache has ", arena.bytes(), " in slabs of ", arena.slab_bytes,
                   ". Ask for fewer tokens or give the server more KV cache memory."));
}

KvRoom BlockManager::room() const {
  const PageCounts &global = arena_.counts(KvClass::kGlobal), &window = arena_.counts(KvClass::kWindow);
  KvRoom room = EmptyRoom(arena_.layout());
  room.unassigned_slabs = arena_.unassigned_slabs();
  room.global_spare = global.free + global.cached - promised(KvClass::kGlobal);
  room.window_spare = window.free + window.cached - promised(KvClass::kWindow);
  return room;
}

std::optional<BlockRef> BlockManager::Allocate(KvClass kv_class) {
  if (std::optional<BlockRef> page = arena_.Take(kv_class)) return page;
  while (cache_.EvictOne(kv_class)) {
    if (std::optional<BlockRef> page = arena_.Take(kv_class)) return page;
  }
  if (!ReclaimSlab(Other(kv_class))) return std::nullopt;
  return arena_.Take(kv_class);
}

// Empties a slab of the class: cached pages are evicted until the others' free places hold what is left in the
// sparsest slab, which moves there.
bool BlockManager::ReclaimSlab(KvClass from) {
  const int64_t per_slab = arena_.layout().of(from).pages_per_slab;
  const PageCounts& counts = arena_.counts(from);
  // A page that this plan returns cannot move in it: moves come first.
  if (!returns_.empty() || counts.free + counts.cached - per_slab < promised(from) || per_slab == 0) return false;
  while (counts.free < per_slab) {
    if (!cache_.EvictOne(from)) return false;
    if (arena_.unassigned_slabs() > 0) return true;
  }
  const int32_t slab = arena_.SparsestSlab(from);
  if (slab < 0) return false;
  arena_.CloseSlab(slab);
  const size_t before = moves_.size();
  for (const int32_t page : arena_.UsedPages(slab)) MovePage(from, page);
  cache_.Renumber(from, std::span(moves_).subspan(before));
  arena_.OpenSlab(slab);
  return arena_.unassigned_slabs() > 0;
}

void BlockManager::MovePage(KvClass kv_class, int32_t page) {
  std::optional<BlockRef> to = arena_.Take(kv_class);
  assert(to && "the other slabs have room");
  const int32_t target = to->page();
  const int32_t logical = logical_page_[static_cast<size_t>(kv_class)][page];
  NoteLogicalPage(kv_class, target, logical);
  const auto renumber = [&](BlockTable& table) {
    if (!table.holds(logical) || table.page(logical) != page) return false;
    table.Renumber(logical, target);
    return true;
  };
  for (SequenceKv* kv : live_) {
    if (renumber(kv->table(kv_class)) && kv_class == KvClass::kGlobal && logical < kv->sent_pages_) {
      updates_.push_back({kv->slot_, logical, target});
    }
    if (kv_class == KvClass::kGlobal) continue;
    renumber(kv->copied_);
    for (SequenceKv::PendingSnapshot& snapshot : kv->snapshots_) renumber(snapshot.pages);
  }
  arena_.Move(kv_class, page, *std::move(to));
  moves_.push_back({kv_class, page, target});
}

bool BlockManager::TakePromise(SequenceKv& kv, int64_t tokens, PageNeed* need) {
  const PageNeed whole = NeedOf(layout_, tokens);
  need->global = std::max<int64_t>(0, whole.global - kv.global_.size());
  need->window = std::max<int64_t>(0, whole.window - kv.window_.size());
  if (!CanProvide(*need)) return false;
  kv.SetPromise(whole.global, whole.window);
  return true;
}

std::unique_ptr<SequenceKv> BlockManager::Admit(const KvRequest& request, PageNeed* need) {
  std::unique_ptr<SequenceKv> kv(new SequenceKv(this));
  kv->cached_ = request.cached && layout_.global.layers > 0;
  kv->salt_ = request.salt;
  kv->prompt_tokens_ = request.prompt_tokens;
  const int64_t global = arena_.counts(KvClass::kGlobal).cached, window = arena_.counts(KvClass::kWindow).cached;
  const PrefixMatch match = SharePrefix(*kv, request);
  const bool snapshot = StartAtSnapshot(*kv);
  if (!snapshot) StartWithRebuild(*kv);
  bool promised = TakePromise(*kv, request.promise, need);
  if (!promised && snapshot) {  // what it would copy may stand in the way itself
    StartWithRebuild(*kv);
    promised = TakePromise(*kv, request.promise, need);
  }
  if (!promised) {
    // Pages of its own prefix are no room for the rest.
    need->global += global - arena_.counts(KvClass::kGlobal).cached;
    need->window += window - arena_.counts(KvClass::kWindow).cached;
    return nullptr;
  }
  if (!CopyWindow(*kv)) return nullptr;
  CountPrefix(request, *kv, match.miss);
  return kv;
}

PrefixMatch BlockManager::SharePrefix(SequenceKv& kv, const KvRequest& request) {
  if (!kv.cached_) return {};
  const auto page = static_cast<size_t>(layout_.global.page_tokens);
  // The last token is never taken from the cache: its logits are wanted.
  const size_t whole = std::min(request.hashes.size(), (request.tokens.size() - 1) / page);
  PrefixMatch match = cache_.Find(request.salt, request.hashes.first(whole), request.tokens);
  kv.Resize([&] {
    for (const int32_t page : match.pages) kv.global_.Append(arena_.Share(KvClass::kGlobal, page));
  });
  kv.inserted_pages_ = static_cast<int32_t>(match.pages.size());
  kv.inserted_hash_ = match.pages.empty() ? request.salt.seed : request.hashes[match.pages.size() - 1];
  return match;
}

bool BlockManager::StartAtSnapshot(SequenceKv& kv) {
  const int32_t page = layout_.global.page_tokens, found = kv.global_.size();
  kv.cached_tokens_ = kv.num_tokens_ = found * page;
  if (layout_.window.layers == 0 || found == 0) return true;
  for (int32_t i = found; i > 0 && int64_t{found - i} * page < rebuild_tokens_; --i) {
    const PrefixCache::Snapshot* snapshot = cache_.UseSnapshot(kv.global_.page(i - 1));
    if (snapshot == nullptr) continue;
    kv.num_tokens_ = i * page;
    kv.copied_.StartAt(snapshot->first_page);
    for (const int32_t each : snapshot->pages) kv.copied_.Append(arena_.Share(KvClass::kWindow, each));
    return true;
  }
  return false;
}

void BlockManager::StartWithRebuild(SequenceKv& kv) {
  kv.copied_.Clear();
  kv.num_tokens_ = kv.rebuilt_from_ = static_cast<int32_t>(std::max<int64_t>(0, kv.cached_tokens_ - rebuild_tokens_));
  if (layout_.window.layers > 0) kv.window_.StartAt(kv.num_tokens_ / layout_.window.page_tokens);
}

// A snapshot's pages are copied, not shared: a sequence that slides past a page must get it back as a free one, or its
// promise is worth nothing.
bool BlockManager::CopyWindow(SequenceKv& kv) {
  if (kv.copied_.size() == 0) return true;
  kv.window_.StartAt(kv.copied_.first_page());
  for (int32_t logical = kv.copied_.first_page(); logical < kv.copied_.end_page(); ++logical) {
    std::optional<BlockRef> page = Allocate(KvClass::kWindow);
    if (!page) return false;
    NoteLogicalPage(KvClass::kWindow, page->page(), logical);
    moves_.push_back({KvClass::kWindow, kv.copied_.page(logical), page->page()});
    kv.Resize([&] { kv.window_.Append(*std::move(page)); });
  }
  kv.copied_.Clear();
  return true;
}

void BlockManager::CountPrefix(const KvRequest& request, const SequenceKv& kv, PrefixMiss miss) {
  if (!kv.cached_) {
    ++stats_.not_cached;
    return;
  }
  stats_.queried_tokens += static_cast<int64_t>(request.tokens.size());
  stats_.hit_tokens += kv.cached_tokens_;
  stats_.rebuilt_tokens += kv.cached_tokens_ - kv.num_tokens_;
  if (static_cast<int32_t>(request.tokens.size()) <= layout_.global.page_tokens) {
    ++stats_.short_prompts;
  } else if (miss == PrefixMiss::kNone) {
    ++stats_.full_hits;
  } else {
    ++(miss == PrefixMiss::kCold ? stats_.cold_misses : stats_.evicted_misses);
  }
}

void BlockManager::Commit(SequenceKv& kv, int32_t computed, TokenAt token) {
  if (!kv.cached_ || kv.spilled_) return;
  const int32_t size = layout_.global.page_tokens;
  std::vector<int32_t> tokens;
  for (; (kv.inserted_pages_ + 1) * size <= computed; ++kv.inserted_pages_) {
    const int32_t logical = kv.inserted_pages_, page = kv.global_.page(logical);
    tokens.clear();
    for (int32_t at = logical * size; at < (logical + 1) * size; ++at) tokens.push_back(token(at));
    kv.inserted_hash_ = hash().Extend(kv.inserted_hash_, tokens);
    const int32_t parent = logical > 0 ? kv.global_.page(logical - 1) : -1;
    const int32_t known = cache_.Insert(kv.salt_, kv.inserted_hash_, parent, tokens, page);
    if (known == page) continue;
    // Another sequence computed the same bits first: one copy is enough.
    kv.global_.Replace(logical, arena_.Share(KvClass::kGlobal, known));
    if (logical < kv.sent_pages_) updates_.push_back({kv.slot_, logical, known});
  }
  KeepSnapshots(kv, computed);
}

void BlockManager::KeepSnapshots(SequenceKv& kv, int32_t computed) {
  std::erase_if(kv.snapshots_, [&](const SequenceKv::PendingSnapshot& snapshot) {
    if (snapshot.position > computed) return false;
    const int32_t size = layout_.global.page_tokens;
    const int32_t page = kv.global_.page(snapshot.position / size - 1);
    if (cache_.Has(page)) cache_.AddSnapshot(page, snapshot.pages.first_page(), snapshot.pages.pages());
    return true;
  });
}

void BlockManager::Retire(SequenceKv& kv, int32_t computed, TokenAt token) {
  if (!kv.cached_ || kv.spilled_) return;
  const int32_t end = computed / layout_.global.page_tokens * layout_.global.page_tokens;
  if (end > 0 && layout_.window.layers > 0) kv.SnapshotAt(end);
  Commit(kv, computed, token);
}

void BlockManager::BeginPlan(uint64_t step) {
  step_ = step;
  assert(spills_.empty() && moves_.empty() && returns_.empty());
}

void BlockManager::TakeCopies(StepPlan& plan) {
  // Nothing will run: table changes wait for the plan that does.
  if (plan.chunks.empty() && spills_.empty() && moves_.empty() && returns_.empty()) return;
  plan.spills = std::exchange(spills_, {});
  plan.moves = std::exchange(moves_, {});
  plan.returns = std::exchange(returns_, {});
  plan.updates = std::exchange(updates_, {});
}

BlockManager::Transit& BlockManager::InTransit() {
  if (transit_.empty() || transit_.back().step != step_) transit_.emplace_back().step = step_;
  return transit_.back();
}

void BlockManager::CompleteStep(uint64_t step) {
  std::erase_if(transit_, [&](Transit& transit) {
    if (transit.step > step) return false;
    // The last page first: the prefix cache has to lose children before their parents.
    for (const PageCopy& copy : std::views::reverse(transit.spilled)) arena_.EndSpill(copy.kv_class, copy.from);
    return true;
  });
}

bool BlockManager::Spill(SequenceKv& kv) {
  assert(!kv.spilled_);
  if (!moves_.empty()) return false;  // a page just moved is not yet where it will be read
  int64_t slabs = host_.unassigned_slabs();
  for (const KvClass kv_class : kKvClasses) {
    const int64_t per_slab = host_.layout().of(kv_class).pages_per_slab;
    const int64_t lack = kv.table(kv_class).size() - host_.counts(kv_class).free;
    if (lack > 0) slabs -= per_slab > 0 ? CeilDiv(lack, per_slab) : slabs + 1;
  }
  if (slabs < 0) return false;
  kv.SetPromise(0, 0);
  kv.snapshots_.clear();
  for (const KvClass kv_class : kKvClasses) SpillPages(kv, kv_class);
  kv.spilled_ = true;
  return true;
}

void BlockManager::SpillPages(SequenceKv& kv, KvClass kv_class) {
  BlockTable& table = kv.table(kv_class);
  BlockTable& host = kv_class == KvClass::kGlobal ? kv.host_global_ : kv.host_window_;
  Transit& transit = InTransit();
  host.StartAt(table.first_page());
  for (const int32_t page : table.pages()) {
    host.Append(*host_.Take(kv_class));
    const PageCopy copy{kv_class, page, host.pages().back()};
    spills_.push_back(copy);
    transit.spilled.push_back(copy);
    arena_.BeginSpill(kv_class, page);
  }
  spilled_bytes_total_ += table.size() * layout_.of(kv_class).page_bytes();
  table.Clear();
}

bool BlockManager::Return(SequenceKv& kv, const KvRequest& request) {
  assert(kv.spilled_);
  // Pages that it had whole. The last one, if partly written, is its own to write on.
  KvRequest held = request;
  const int32_t tokens = std::max(kv.num_tokens_, kv.cached_tokens_);
  if (kv.cached_)
    held.hashes =
        held.hashes.first(std::min(held.hashes.size(), static_cast<size_t>(tokens / layout_.global.page_tokens)));
  SharePrefix(kv, held);
  const int32_t found[2] = {kv.global_.size(), 0};
  PageNeed need;
  if (TakePromise(kv, request.promise, &need) && TakeReturnPages(kv, KvClass::kGlobal) &&
      TakeReturnPages(kv, KvClass::kWindow)) {
    // Copies are listed when all pages are there: taking one may move those taken before it.
    for (const KvClass kv_class : kKvClasses) ListReturns(kv, kv_class, found[static_cast<size_t>(kv_class)]);
    InTransit().returned.push_back(std::move(kv.host_global_));
    InTransit().returned.push_back(std::move(kv.host_window_));
    kv.spilled_ = false;
    return true;
  }
  kv.SetPromise(0, 0);
  kv.global_.Clear();
  kv.window_.Clear();
  return false;
}

// Pages for what the table does not hold yet.
bool BlockManager::TakeReturnPages(SequenceKv& kv, KvClass kv_class) {
  BlockTable& table = kv.table(kv_class);
  const BlockTable& host = kv_class == KvClass::kGlobal ? kv.host_global_ : kv.host_window_;
  if (table.size() == 0) table.StartAt(host.first_page());
  for (int32_t logical = table.end_page(); logical < host.end_page(); ++logical) {
    std::optional<BlockRef> page = Allocate(kv_class);
    if (!page) return false;
    NoteLogicalPage(kv_class, page->page(), logical);
    kv.Resize([&] { table.Append(*std::move(page)); });
  }
  return true;
}

void BlockManager::ListReturns(SequenceKv& kv, KvClass kv_class, int32_t found) {
  const BlockTable& table = kv.table(kv_class);
  const BlockTable& host = kv_class == KvClass::kGlobal ? kv.host_global_ : kv.host_window_;
  for (int32_t logical = table.first_page() + found; logical < host.end_page(); ++logical) {
    returns_.push_back({kv_class, host.page(logical), table.page(logical)});
  }
}

absl::Status BlockManager::CheckArena(const Arena& arena, bool host) const {
  for (const KvClass kv_class : kKvClasses) {
    const bool global = kv_class == KvClass::kGlobal;
    std::vector<std::span<const int32_t>> owners;
    for (const SequenceKv* kv : live_) {
      owners.push_back(host ? (global ? kv->host_global_ : kv->host_window_).pages()
                            : (global ? kv->global_ : kv->window_).pages());
      if (host || global) continue;
      owners.push_back(kv->copied_.pages());
      for (const auto& snapshot : kv->snapshots_) owners.push_back(snapshot.pages.pages());
    }
    for (const Transit& transit : transit_) {
      for (size_t i = global ? 0 : 1; host && i < transit.returned.size(); i += 2) {
        owners.push_back(transit.returned[i].pages());
      }
    }
    if (absl::Status status = arena.Check(kv_class, owners); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status BlockManager::Check() const {
  if (absl::Status status = CheckArena(arena_, false); !status.ok()) return status;
  if (absl::Status status = CheckArena(host_, true); !status.ok()) return status;
  if (absl::Status status = cache_.Check(); !status.ok()) return status;
  for (const KvClass kv_class : kKvClasses) {
    int64_t owed = 0;
    for (const SequenceKv* kv : live_) owed += kv->Owed(kv_class);
    if (owed != promised(kv_class)) {
      return absl::InternalError(absl::StrCat("promised ", promised(kv_class), " pages, owed ", owed));
    }
  }
  return absl::OkStatus();
}

}  // namespace hysparse
