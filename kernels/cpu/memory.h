// Zeroed memory for weights, pages and workspaces: 64-byte aligned, in huge pages where it is large, because streaming
// weights through 4 KiB pages spends its time in the TLB. Any thread.
#pragma once

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"

namespace hysparse::cpu {

// ResourceExhausted names the size. Zero bytes give a valid pointer.
absl::StatusOr<std::shared_ptr<std::byte>> AllocateZeroed(size_t bytes);

}  // namespace hysparse::cpu
