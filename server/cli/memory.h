// Memory that this process may still take on the host, and how much of it the KV cache gets. Any thread.
#pragma once

#include <cstdint>
#include <string>

#include "server/cli/config.h"

namespace hysparse {

// The smaller of the kernel's MemAvailable and what the cgroups (v2 or v1) leave.
int64_t AvailableMemory();

// The same from given roots, for tests: PROC/meminfo, PROC/self/cgroup and the cgroup file system's folder.
int64_t AvailableMemory(const std::string& proc, const std::string& cgroups);

// What the KV cache may take: --kv-cache-memory, else --gpu-memory-utilization of what is available less the weights;
// 0 when the weights leave nothing.
int64_t KvMemoryBudget(const EngineConfig& config, int64_t weight_bytes, int64_t available = AvailableMemory());

}  // namespace hysparse
