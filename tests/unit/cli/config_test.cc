#include "server/cli/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/cli/option_table.h"
#include "server/cli/option_values.h"

namespace hysparse {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Variables = std::map<std::string, std::string>;

absl::StatusOr<ReadConfigResult> Read(const std::string& line, const Variables& variables = {}) {
  return ReadConfig(absl::StrSplit(line, ' ', absl::SkipEmpty()), [&](const std::string& name) -> const char* {
    const auto it = variables.find(name);
    return it == variables.end() ? nullptr : it->second.c_str();
  });
}

Config Ok(const std::string& line, const Variables& variables = {}) {
  const auto result = Read(line, variables);
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? result->config : Config{};
}

std::string Error(const std::string& line, const Variables& variables = {}) {
  const auto result = Read(line, variables);
  EXPECT_FALSE(result.ok()) << line;
  const std::string message(result.status().message());
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  return message;
}

class YamlFile {
 public:
  explicit YamlFile(const std::string& text) {
    static int count = 0;
    path_ = std::filesystem::temp_directory_path() / absl::StrCat("hysparse-config-", getpid(), "-", count++, ".yaml");
    std::ofstream(path_) << text;
  }
  ~YamlFile() { std::filesystem::remove(path_); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

TEST(Config, DefaultsAreThoseOfTheStructs) {
  const Config config = Ok("serve m");
  EXPECT_EQ(config.command, kServe);
  EXPECT_EQ(config.model, "m");
  EXPECT_EQ(config.server.host, ServerOptions{}.host);
  EXPECT_EQ(config.server.port, 8000);
  EXPECT_EQ(config.grpc_port, 9000);
  EXPECT_EQ(config.engine.max_model_len, 0);
  EXPECT_EQ(config.engine.dtype, "auto");
}

TEST(Config, FlagsOfEveryKind) {
  const Config config =
      Ok("serve m --host 0.0.0.0 --port=0 --grpc-port off --max-model-len 4096 --kv-cache-memory 2GiB --api-key a "
         "--api-key b,c "
         "--strict --gpu-memory-utilization 0.75 --dtype float32 --served-model-name x,y");
  EXPECT_EQ(config.server.host, "0.0.0.0");
  EXPECT_EQ(config.server.port, 0);
  EXPECT_EQ(config.grpc_port, -1);
  EXPECT_EQ(config.engine.max_model_len, 4096);
  EXPECT_EQ(config.engine.kv_cache_memory, int64_t{2} << 30);
  EXPECT_THAT(config.server.api_keys, ElementsAre("a", "b", "c"));
  EXPECT_TRUE(config.server.strict);
  EXPECT_EQ(config.engine.gpu_memory_utilization, 0.75);
  EXPECT_EQ(config.engine.dtype, "float32");
  EXPECT_THAT(config.served_model_names, ElementsAre("x", "y"));
}

TEST(Config, FlagsMayStandBeforeTheModelAndTheLastOneWins) {
  const Config config = Ok("serve --port 1 --strict m --port 2");
  EXPECT_EQ(config.model, "m");
  EXPECT_EQ(config.server.port, 2);
}

TEST(Config, FlagBeatsEnvironmentBeatsFile) {
  const YamlFile file("port: 1\nhost: file\nmax-num-seqs: 3\napi_key: [k1, k2]\nmodel: from-file\nstrict: true\n");
  const Variables variables = {{"HYSPARSE_PORT", "2"}, {"HYSPARSE_HOST", "env"}, {"HYSPARSE_CONFIG", file.path()}};
  const Config config = Ok("serve --port 3", variables);
  EXPECT_EQ(config.server.port, 3);
  EXPECT_EQ(config.server.host, "env");
  EXPECT_EQ(config.engine.max_num_seqs, 3);
  EXPECT_THAT(config.server.api_keys, ElementsAre("k1", "k2"));
  EXPECT_EQ(config.model, "from-file");
  EXPECT_TRUE(config.server.strict);
  EXPECT_EQ(Ok("serve m --config " + file.path()).model, "m");
  EXPECT_EQ(Ok("serve", {{"HYSPARSE_MODEL", "e"}, {"HYSPARSE_CONFIG", file.path()}}).model, "e");
}

// Each option of the table, through each of its three sources, ends up in the same place.
TEST(Config, EveryOptionHasAFlagAVariableAndAKey) {
  Config scratch;
  for (const Option& option : OptionTable(scratch)) {
    const char* command = option.commands & kServe      ? "serve"
                          : option.commands & kPlan     ? "plan"
                          : option.commands & kGenerate ? "generate"
                          : option.commands & kBench    ? "bench"
                                                        : "simulate";
    const std::string wrong = option.is_switch() ? "perhaps" : "\x01";
    const YamlFile file(absl::StrCat(option.name, ": [[1]]\n"));
    EXPECT_THAT(Error(absl::StrCat(command, " m --config ", file.path())), HasSubstr(option.name));
    if (option.set({wrong}).ok()) continue;  // free text
    EXPECT_THAT(Error(absl::StrCat(command, " m"), {{option.variable(), wrong}}), HasSubstr(option.variable()));
    if (!option.is_switch()) {
      EXPECT_THAT(Error(absl::StrCat(command, " m ", option.flag(), "=", wrong)), HasSubstr(option.flag() + ": "));
    }
  }
}

TEST(Config, ErrorsNameTheSourceAndWhatToChange) {
  EXPECT_EQ(Error("serve m --port 70000"), "--port: '70000' is not a whole number from 0 to 65535");
  EXPECT_EQ(Error("serve m", {{"HYSPARSE_PORT", "x"}}), "HYSPARSE_PORT: 'x' is not a whole number from 0 to 65535");
  EXPECT_EQ(Error("serve m --max-num-seqs 0"), "--max-num-seqs: '0' is not a whole number from 1 to 65536");
  EXPECT_EQ(Error("serve m --dtype fp8"), "--dtype: 'fp8' is not one of auto, float32, bfloat16");
  EXPECT_EQ(Error("serve m --prot 1"), "unknown flag --prot; did you mean --port? (see hysparse serve --help)");
  EXPECT_EQ(Error("plan m --port 1"), "--port is not a flag of `hysparse plan`");
  EXPECT_EQ(Error("serve m n"), "unexpected argument 'n': one MODEL is served at a time");
  EXPECT_THAT(Error("serve m --port"), HasSubstr("--port"));
  EXPECT_THAT(Error("serve"), HasSubstr("which model?"));
  EXPECT_THAT(Error(""), HasSubstr("which command?"));
  EXPECT_THAT(Error("sevre m"), HasSubstr("unknown command 'sevre'"));
  EXPECT_THAT(Error("serve m --kv-cache-memory 2XB"), HasSubstr("not a size such as 2GiB"));
  EXPECT_THAT(Error("plan m --kv-bytes 3"), HasSubstr("not one of 1, 2, 4"));
}

TEST(Config, HostMemoryMayBeNone) {
  EXPECT_EQ(Ok("serve m").engine.kv_host_memory, -1);
  EXPECT_EQ(Ok("serve m --kv-host-memory 0").engine.kv_host_memory, 0);
  EXPECT_EQ(Ok("serve m --kv-host-memory 1GiB").engine.kv_host_memory, int64_t{1} << 30);
  EXPECT_FALSE(Ok("serve m --no-enable-prefix-caching").engine.enable_prefix_caching);
}

TEST(Config, ImpossibleCombinations) {
  EXPECT_THAT(Error("serve m --device cuda"), HasSubstr("use --device cpu"));
  EXPECT_THAT(Error("serve m --tensor-parallel-size 2"), HasSubstr("use 1"));
  EXPECT_THAT(Error("serve m --ssl-certfile c"), HasSubstr("give --ssl-keyfile too"));
  EXPECT_THAT(Error("serve m --ssl-keyfile k"), HasSubstr("give --ssl-certfile too"));
  EXPECT_THAT(Error("serve m --max-num-batched-tokens 8 --max-num-seqs 9"), HasSubstr("below --max-num-seqs 9"));
  EXPECT_THAT(Error("serve m --port 9000"), HasSubstr("both 9000"));
  EXPECT_THAT(Error("generate m --raw --system s"), HasSubstr("--raw"));
  EXPECT_EQ(Ok("serve m --port 9000 --grpc-port off").server.port, 9000);
}

TEST(Config, BrokenFiles) {
  EXPECT_THAT(Error("serve m --config /does/not/exist"), HasSubstr("/does/not/exist"));
  EXPECT_THAT(Error("serve m --config " + YamlFile("prot: 1\n").path()), HasSubstr("prot"));
  const YamlFile unknown("prot: 1\n"), broken("port: [1\n"), twice("max-num-seqs: 1\nmax_num_seqs: 2\n"), list("- a\n"),
      many("port: [1, 2]\n"), range("port: 70000\n");
  EXPECT_THAT(Error("serve m --config " + unknown.path()), HasSubstr("unknown key prot; did you mean port?"));
  EXPECT_THAT(Error("serve m --config " + broken.path()), HasSubstr("line"));
  EXPECT_THAT(Error("serve m --config " + twice.path()), HasSubstr("max-num-seqs is there twice"));
  EXPECT_THAT(Error("serve m --config " + list.path()), HasSubstr("key: value"));
  EXPECT_THAT(Error("serve m --config " + many.path()), HasSubstr("port must be one value"));
  EXPECT_THAT(Error("serve m --config " + range.path()), HasSubstr(range.path() + ": port: '70000'"));
  const YamlFile empty("");
  EXPECT_EQ(Ok("serve m --config " + empty.path()).server.port, 8000);
}

TEST(Config, AFileForSeveralCommandsMayHoldOptionsOfAll) {
  const YamlFile file("port: 1234\nruns: 9\nthreads: 2\n");
  const Config config = Ok("bench m --config " + file.path());
  EXPECT_EQ(config.bench_runs, 9);
  EXPECT_EQ(config.engine.threads, 2);
  EXPECT_EQ(config.server.port, 8000);
}

TEST(Config, ApiKeysFromFilesJoinThoseOfFlags) {
  const YamlFile keys("one\n\n  two \n"), empty("\n\n");
  EXPECT_THAT(Ok("serve m --api-key zero --api-key-file " + keys.path()).server.api_keys,
              ElementsAre("zero", "one", "two"));
  EXPECT_THAT(Error("serve m --api-key-file " + empty.path()), HasSubstr("holds nothing"));
  EXPECT_THAT(Error("serve m", {{"HYSPARSE_API_KEY_FILE", "/no/file"}}), HasSubstr("HYSPARSE_API_KEY_FILE: "));
}

TEST(Config, HelpNamesEveryOptionOfTheCommand) {
  Config scratch;
  const std::vector<Option> table = OptionTable(scratch);
  for (const auto& [name, command] : {std::pair{"serve", kServe},
                                      {"plan", kPlan},
                                      {"generate", kGenerate},
                                      {"bench", kBench},
                                      {"simulate", kSimulate}}) {
    const auto result = Read(absl::StrCat(name, " --help"));
    ASSERT_TRUE(result.ok() && result->printed) << name;
    for (const Option& option : table) {
      const bool there = result->printed->text.find(option.flag() + " ") != std::string::npos ||
                         result->printed->text.find(option.flag() + "\n") != std::string::npos;
      // Commands may share a flag and differ in its default.
      const bool wanted = std::any_of(table.begin(), table.end(), [&, of = command](const Option& other) {
        return other.name == option.name && (other.commands & of) != 0;
      });
      EXPECT_EQ(there, wanted) << name << " " << option.flag();
    }
  }
  EXPECT_THAT(Read("--help")->printed->text, HasSubstr("generate"));
  EXPECT_THAT(Read("--version")->printed->text, HasSubstr("hysparse "));
}

TEST(OptionValues, Sizes) {
  EXPECT_EQ(*ParseSize("2GiB"), int64_t{2} << 30);
  EXPECT_EQ(*ParseSize("2g"), int64_t{2} << 30);
  EXPECT_EQ(*ParseSize("1.5 GB"), 1500000000);
  EXPECT_EQ(*ParseSize("4096"), 4096);
  EXPECT_EQ(*ParseSize("512MiB"), 512 << 20);
  for (const char* bad : {"", "GiB", "-1", "0", "1e30GiB", "nan", "inf", "2 apples", "99999999TiB"}) {
    EXPECT_FALSE(ParseSize(bad).ok()) << bad;
  }
  EXPECT_EQ(FormatSize(1023), "1023 B");
  EXPECT_EQ(FormatSize(1536), "1.5 KiB");
  EXPECT_EQ(FormatSize(int64_t{3} << 30), "3.0 GiB");
}

}  // namespace
}  // namespace hysparse
