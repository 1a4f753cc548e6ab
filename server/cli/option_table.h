// The table of options: one entry per option, bound to the Config that it fills in. Used by ReadConfig only.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/cli/config.h"

namespace hysparse {

struct Option {
  std::string name;      // "max-model-len"
  std::string value;     // what the help calls its value; empty: a switch
  unsigned commands;     // those that take it
  std::string help;      // one line
  std::string standard;  // the default, for the help; empty: none worth saying
  bool repeatable = false;
  // Stores the value(s). The error says what would be right, not which option: the caller names its source.
  std::function<absl::Status(const std::vector<std::string>&)> set;

  bool is_switch() const { return value.empty(); }
  std::string flag() const { return "--" + name; }
  std::string variable() const;  // HYSPARSE_MAX_MODEL_LEN
};

std::vector<Option> OptionTable(Config& config);

// What single options cannot check: combinations, and values that this build cannot serve.
absl::Status CheckCombinations(const Config& config);

}  // namespace hysparse
