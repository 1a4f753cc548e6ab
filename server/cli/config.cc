#include "server/cli/config.h"

#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "engine/base/file.h"
#include "engine/base/result.h"
#include "server/cli/option_table.h"

namespace hysparse {
namespace {

using Values = std::map<std::string, std::vector<std::string>>;  // option name -> values, of one source

struct CommandInfo {
  Command command;
  const char* name;
  const char* help;
};
constexpr CommandInfo kCommands[] = {
    {kServe, "serve", "Serve a model over HTTP and gRPC"},
    {kPlan, "plan", "Show a model's layers, KV bytes and the sessions that fit; loads no weights"},
    {kGenerate, "generate", "Answer a prompt on the terminal; without --prompt, hold a conversation"},
    {kSimulate, "simulate", "Run a workload on GPUs that are not there, in virtual time; loads no weights"},
    {kBench, "bench", "Measure prefill and decode speed against the machine's ceilings"},
};

absl::Status Wrong(const std::string& message) { return absl::InvalidArgumentError(message); }

int EditDistance(const std::string& a, const std::string& b) {
  std::vector<int> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({change, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

// "; did you mean --port?", or nothing when no option is near.
std::string Suggestion(const std::string& name, const std::vector<Option>& table, const std::string& prefix) {
  const Option* best = nullptr;
  int distance = 4;
  for (const Option& option : table) {
    const int d = EditDistance(name, option.name);
    if (d < distance) {
      distance = d;
      best = &option;
    }
  }
  return best ? absl::StrCat("; did you mean ", prefix, best->name, "?") : "";
}

// Declares the command's options on `app`; what is given lands in `given`.
void Declare(CLI::App& app, const std::vector<Option>& table, Command command, Values& given) {
  for (const Option& option : table) {
    if (!(option.commands & command)) continue;
    std::string help = option.help;
    if (!option.standard.empty()) help += absl::StrCat(" [", option.standard, "]");
    std::vector<std::string>& values = given[option.name];
    if (option.is_switch()) {
      app.add_flag_callback(
          option.flag(), [&values] { values = {"true"}; }, help);
      continue;
    }
    CLI::Option* declared = app.add_option(option.flag(), values, help)->type_name(option.value)->type_size(1);
    declared->expected(1)->allow_extra_args(false)->multi_option_policy(
        option.repeatable ? CLI::MultiOptionPolicy::TakeAll : CLI::MultiOptionPolicy::TakeLast);
  }
}

// The error for the first argument that no option took.
absl::Status Unexpected(const std::string& argument, const std::vector<Option>& table, const CommandInfo& command) {
  if (argument.starts_with("-")) {
    const std::string flag = argument.substr(0, argument.find('='));
    const std::string name =
        flag.substr(flag.find_first_not_of('-') == std::string::npos ? 0 : flag.find_first_not_of('-'));
    for (const Option& option : table) {
      if (option.name == name) return Wrong(absl::StrCat(flag, " is not a flag of `hysparse ", command.name, "`"));
    }
    std::vector<Option> mine;
    std::copy_if(table.begin(), table.end(), std::back_inserter(mine),
                 [&](const Option& option) { return option.commands & command.command; });
    return Wrong(
        absl::StrCat("unknown flag ", flag, Suggestion(name, mine, "--"), " (see hysparse ", command.name, " --help)"));
  }
  return Wrong(absl::StrCat("unexpected argument '", argument, "': one MODEL is served at a time"));
}

// {option: values} of a YAML file; `model` is taken too. Keys may be spelled with _ for -.
absl::StatusOr<Values> ReadYaml(const std::string& path, const std::vector<Option>& table) {
  HYSPARSE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, 1 << 20));
  Values values;
  try {
    const YAML::Node root = YAML::Load(text);
    if (root.IsNull()) return values;
    if (!root.IsMap()) return Wrong(absl::StrCat(path, ": must hold `key: value` lines"));
    for (const auto& entry : root) {
      if (!entry.first.IsScalar()) return Wrong(absl::StrCat(path, ": must hold `key: value` lines"));
      const std::string key = absl::StrReplaceAll(entry.first.as<std::string>(), {{"_", "-"}});
      const auto option = std::find_if(table.begin(), table.end(), [&](const Option& o) { return o.name == key; });
      if (key != "model" && option == table.end()) {
        return Wrong(absl::StrCat(path, ": unknown key ", key, Suggestion(key, table, "")));
      }
      if (values.contains(key)) return Wrong(absl::StrCat(path, ": ", key, " is there twice"));
      const YAML::Node& value = entry.second;
      if (value.IsScalar()) {
        values[key] = {value.as<std::string>()};
      } else if (value.IsSequence() && key != "model" && option->repeatable && value.size() > 0) {
        for (const YAML::Node& item : value) {
          if (!item.IsScalar()) return Wrong(absl::StrCat(path, ": ", key, " must be a list of plain values"));
          values[key].push_back(item.as<std::string>());
        }
      } else {
        return Wrong(absl::StrCat(path, ": ", key, " must be one value"));
      }
    }
  } catch (const YAML::Exception& error) {
    return Wrong(absl::StrCat(path, ": line ", error.mark.line + 1, ": ", error.msg));
  }
  return values;
}

struct CommandLine {
  std::string model, config_file;
  Values given;
  std::optional<Printed> printed;
};

absl::StatusOr<CommandLine> ParseCommandLine(const CommandInfo& info, const std::vector<std::string>& arguments,
                                             const std::vector<Option>& table) {
  CommandLine line;
  CLI::App app(info.help, absl::StrCat("hysparse ", info.name));
  app.allow_extras();
  app.set_help_flag("-h,--help", "Print this help and exit");
  app.footer(
      "Each flag is also an environment variable (--max-model-len: HYSPARSE_MAX_MODEL_LEN) and a key of the --config\n"
      "file (max-model-len: 8192). A flag wins over the environment, the environment over the file.");
  try {
    app.add_option("MODEL", line.model, "folder of the model, or the name of a prepared one");
    app.add_option("--config", line.config_file, "YAML file of options")->type_name("FILE");
    Declare(app, table, info.command, line.given);
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
    app.parse(reversed);
    if (const std::vector<std::string> extra = app.remaining(); !extra.empty())
      return Unexpected(extra[0], table, info);
  } catch (const CLI::CallForHelp&) {
    line.printed = Printed{app.help()};
  } catch (const CLI::ParseError& error) {
    return Wrong(error.what());
  }
  return line;
}

// Every option from the highest source that has it.
absl::Status Resolve(const std::vector<Option>& table, Command command, const CommandLine& line, const Values& file,
                     const std::string& file_name, const Environment& environment) {
  for (const Option& option : table) {
    if (!(option.commands & command)) continue;
    std::string source = option.flag();
    std::vector<std::string> values = line.given.at(option.name);
    if (values.empty()) {
      if (const char* value = environment(option.variable())) {
        source = option.variable();
        values = {value};
      }
    }
    if (values.empty() && file.contains(option.name)) {
      source = absl::StrCat(file_name, ": ", option.name);
      values = file.at(option.name);
    }
    if (values.empty()) continue;
    const absl::Status status = option.set(values);
    if (!status.ok()) return Wrong(absl::StrCat(source, ": ", status.message()));
  }
  return absl::OkStatus();
}

std::string Overview() {
  std::string text = "hysparse: a serving engine for long contexts\n\nusage: hysparse COMMAND MODEL [flags]\n\n";
  for (const CommandInfo& info : kCommands) {
    text += absl::StrCat("  ", info.name, std::string(10 - std::string(info.name).size(), ' '), info.help, "\n");
  }
  return text + "\nMODEL is a folder, or the name of a prepared model. hysparse COMMAND --help lists the flags.\n";
}

const char* Or(const char* value, const char* fallback) { return value ? value : fallback; }

}  // namespace

absl::StatusOr<ReadConfigResult> ReadConfig(const std::vector<std::string>& arguments, const Environment& environment) {
  ReadConfigResult result;
  if (arguments.empty() || arguments[0] == "--help" || arguments[0] == "-h" || arguments[0] == "help") {
    if (arguments.empty())
      return Wrong("which command? serve, plan, simulate, generate or bench (see hysparse --help)");
    result.printed = Printed{Overview()};
    return result;
  }
  if (arguments[0] == "--version") {
    result.printed = Printed{absl::StrCat("hysparse ", HYSPARSE_VERSION, "\n")};
    return result;
  }
  const auto info = std::find_if(std::begin(kCommands), std::end(kCommands),
                                 [&](const CommandInfo& c) { return arguments[0] == c.name; });
  if (info == std::end(kCommands)) {
    return Wrong(absl::StrCat("unknown command '", arguments[0], "'; one of serve, plan, simulate, generate, bench"));
  }
  Config& config = result.config;
  config.command = info->command;
  const std::vector<Option> table =
      OptionTable(config);  // bound to `config`, which must not move until it is filled in
  HYSPARSE_ASSIGN_OR_RETURN(const CommandLine line,
                            ParseCommandLine(*info, {arguments.begin() + 1, arguments.end()}, table));
  if (line.printed) {
    result.printed = line.printed;
    return result;
  }
  const std::string file_name = line.config_file.empty() ? Or(environment("HYSPARSE_CONFIG"), "") : line.config_file;
  Values file;
  if (!file_name.empty()) {
    HYSPARSE_ASSIGN_OR_RETURN(file, ReadYaml(file_name, table));
  }
  HYSPARSE_RETURN_IF_ERROR(Resolve(table, config.command, line, file, file_name, environment));
  config.model = !line.model.empty() ? line.model : Or(environment("HYSPARSE_MODEL"), "");
  if (config.model.empty() && file.contains("model")) config.model = file.at("model").front();
  if (config.model.empty()) {
    return Wrong(
        absl::StrCat("which model? hysparse ", info->name, " MODEL, a folder or the name of a prepared model"));
  }
  config.server.log_json = config.log_format == "json";
  HYSPARSE_RETURN_IF_ERROR(CheckCombinations(config));
  return result;
}

}  // namespace hysparse
