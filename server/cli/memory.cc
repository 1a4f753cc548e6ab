#include "server/cli/memory.h"

#include <algorithm>
#include <fstream>
#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace hysparse {
namespace {

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

// The number a control file holds, or `otherwise` ("max", or no file).
int64_t ReadNumber(const std::string& path, int64_t otherwise) {
  std::ifstream file(path);
  std::string word;
  int64_t value = 0;
  return file >> word && absl::SimpleAtoi(word, &value) ? value : otherwise;
}

int64_t MemAvailable(const std::string& proc) {
  std::ifstream file(proc + "/meminfo");
  std::string key, unit;
  int64_t kib = 0;
  while (file >> key >> kib) {
    if (key == "MemAvailable:") return kib * 1024;
    std::getline(file, unit);
  }
  return kNoLimit;
}

// What the cgroup at `folder` and those above it leave.
int64_t CgroupLeaves(std::string folder, size_t root_size, const char* limit, const char* used) {
  int64_t leaves = kNoLimit;
  while (true) {
    const int64_t most = ReadNumber(folder + "/" + limit, kNoLimit);
    if (most != kNoLimit) leaves = std::min(leaves, std::max<int64_t>(0, most - ReadNumber(folder + "/" + used, 0)));
    if (folder.size() <= root_size) return leaves;
    folder.resize(std::max(root_size, folder.find_last_of('/')));
  }
}

}  // namespace

int64_t AvailableMemory(const std::string& proc, const std::string& cgroups) {
  int64_t available = MemAvailable(proc);
  std::ifstream file(proc + "/self/cgroup");
  for (std::string line; std::getline(file, line);) {  // "0::/a/b" (v2) or "9:memory:/a/b" (v1)
    const std::vector<std::string> part = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (part.size() != 3) continue;
    const std::string path = part[2] == "/" ? "" : part[2];
    if (part[1].empty()) {
      available = std::min(available, CgroupLeaves(cgroups + path, cgroups.size(), "memory.max", "memory.current"));
    } else if (part[1] == "memory") {
      const std::string root = cgroups + "/memory";
      available =
          std::min(available, CgroupLeaves(root + path, root.size(), "memory.limit_in_bytes", "memory.usage_in_bytes"));
    }
  }
  return available;
}

int64_t KvMemoryBudget(const EngineConfig& config, int64_t weight_bytes, int64_t available) {
  if (config.kv_cache_memory > 0) return config.kv_cache_memory;
  const double share = config.gpu_memory_utilization * static_cast<double>(available);
  return std::max<int64_t>(0, static_cast<int64_t>(share) - weight_bytes);
}

int64_t AvailableMemory() { return AvailableMemory("/proc", "/sys/fs/cgroup"); }

}  // namespace hysparse
