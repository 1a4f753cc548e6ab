#include "kernels/cpu/memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace hysparse::cpu {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

}  // namespace

absl::StatusOr<std::shared_ptr<std::byte>> AllocateZeroed(size_t bytes) {
  // Room to start on a huge page: what is never touched costs address space only.
  const bool huge = bytes >= kHugePage;
  const size_t slack = huge ? kHugePage : 1;
  if (bytes > std::numeric_limits<size_t>::max() - slack) return absl::ResourceExhaustedError("a size overflows");
  const size_t mapped = bytes + slack;
  void* map = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) {
    return absl::ResourceExhaustedError(absl::StrCat("cannot allocate ", bytes, " bytes: ", std::strerror(errno)));
  }
  auto* start = static_cast<std::byte*>(map);
  if (huge) {
    start += (kHugePage - reinterpret_cast<uintptr_t>(start) % kHugePage) % kHugePage;
    madvise(start, bytes, MADV_HUGEPAGE);  // best effort
  }
  return std::shared_ptr<std::byte>(start, [map, mapped](std::byte*) { munmap(map, mapped); });
}

}  // namespace hysparse::cpu
