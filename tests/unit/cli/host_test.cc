#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "server/cli/memory.h"
#include "server/cli/model_folder.h"

namespace hysparse {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class HostTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() / ("hysparse-host-" + std::to_string(getpid()));
    fs::create_directories(root_);
  }
  void TearDown() override { fs::remove_all(root_); }
  void Write(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  std::string At(const std::string& path) const { return (root_ / path).string(); }
  int64_t Available() const { return AvailableMemory(At("proc"), At("cgroup")); }
  fs::path root_;
};

TEST_F(HostTest, MemoryWithoutCgroupsIsMemAvailable) {
  Write("proc/meminfo", "MemTotal:  9000 kB\nMemFree: 1 kB\nMemAvailable:   4096 kB\n");
  EXPECT_EQ(Available(), 4096 * 1024);
}

TEST_F(HostTest, TheTightestCgroupAboveTheProcessCounts) {
  Write("proc/meminfo", "MemAvailable: 40960 kB\n");
  Write("proc/self/cgroup", "0::/pod/box\n");
  Write("cgroup/pod/box/memory.max", "max\n");
  Write("cgroup/pod/memory.max", "5000000\n");
  Write("cgroup/pod/memory.current", "2000000\n");
  EXPECT_EQ(Available(), 3000000);
  Write("cgroup/pod/box/memory.max", "1000000\n");
  Write("cgroup/pod/box/memory.current", "1500000\n");
  EXPECT_EQ(Available(), 0);
}

TEST_F(HostTest, VersionOneCgroups) {
  Write("proc/meminfo", "MemAvailable: 40960 kB\n");
  Write("proc/self/cgroup", "11:cpu:/x\n9:memory:/docker/1\n");
  Write("cgroup/memory/docker/1/memory.limit_in_bytes", "7000000\n");
  Write("cgroup/memory/docker/1/memory.usage_in_bytes", "1000000\n");
  EXPECT_EQ(Available(), 6000000);
}

TEST_F(HostTest, KvBudget) {
  EngineConfig config;
  config.gpu_memory_utilization = 0.5;
  EXPECT_EQ(KvMemoryBudget(config, 100, 1000), 400);
  EXPECT_EQ(KvMemoryBudget(config, 600, 1000), 0);
  config.kv_cache_memory = 123;
  EXPECT_EQ(KvMemoryBudget(config, 600, 1000), 123);
}

TEST_F(HostTest, ModelsByPathAndByName) {
  Write("cache/models/tiny/config.json", "{}");
  Write("here/config.json", "{}");
  Write("file", "x");
  ::setenv("HYSPARSE_CACHE", At("cache").c_str(), 1);
  EXPECT_EQ(FindModel("tiny")->path, At("cache/models/tiny"));
  EXPECT_EQ(FindModel("tiny")->name, "tiny");
  EXPECT_EQ(FindModel(At("here/"))->name, "here");
  EXPECT_EQ(FindModel(At("here/."))->name, "here");
  EXPECT_THAT(FindModel("other").status().message(), HasSubstr("models/get.sh"));
  EXPECT_THAT(FindModel(At("no/folder")).status().message(), HasSubstr("there is no folder"));
  EXPECT_THAT(FindModel(At("file")).status().message(), HasSubstr("is a file"));
  ::unsetenv("HYSPARSE_CACHE");
}

TEST_F(HostTest, WeightBytesAreThoseOfTheSafetensorsFiles) {
  Write("m/a.safetensors", "12345");
  Write("m/b.safetensors", "123");
  Write("m/config.json", "{}");
  EXPECT_EQ(WeightFileBytes(At("m")), 8);
  EXPECT_EQ(WeightFileBytes(At("nowhere")), 0);
}

}  // namespace
}  // namespace hysparse
