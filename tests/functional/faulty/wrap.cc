// What stands between `hysparse_faulty` and the backend's factory: the linker sends calls of MakeCpuBackend here
// (--wrap, CMakeLists.txt), so that the production code has no hook. HYSPARSE_FAULT names the fault to plant; unset,
// the binary is the production one.
#include <cstdlib>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/functional/faulty/faults.h"

namespace hysparse::faulty {

// The names that --wrap gives them.
absl::StatusOr<std::unique_ptr<Backend>> MakeRealBackend(const CpuOptions& options) asm(
    "__real__ZN8hysparse14MakeCpuBackendERKNS_10CpuOptionsE");
absl::StatusOr<std::unique_ptr<Backend>> MakeFaultyBackend(const CpuOptions& options) asm(
    "__wrap__ZN8hysparse14MakeCpuBackendERKNS_10CpuOptionsE");

absl::StatusOr<std::unique_ptr<Backend>> MakeFaultyBackend(const CpuOptions& options) {
  absl::StatusOr<std::unique_ptr<Backend>> real = MakeRealBackend(options);
  const char* name = std::getenv("HYSPARSE_FAULT");
  if (!real.ok() || name == nullptr) return real;
  std::unique_ptr<Backend> faulty = PlantFault(name, *std::move(real));
  if (faulty == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("HYSPARSE_FAULT is ", name, "; it names one of ", absl::StrJoin(FaultNames(), ", ")));
  }
  return faulty;
}

}  // namespace hysparse::faulty
