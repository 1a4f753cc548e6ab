#include "engine/sim/workload.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/file.h"
#include "engine/base/result.h"

namespace hysparse {
namespace {

constexpr double kLongest = 1e9;            // seconds
constexpr int32_t kMostTokens = 1 << 28;    // of a prompt
constexpr int32_t kMostSessions = 1 << 20;  // in one arrival
constexpr std::pair<const char*, const char*> kPresets[] = {{"chat", R"(
duration: 3600
load: 0.6
classes:
  - {name: chat, prompt: 2048, output: [64, 448], turns: [1, 6], turn_prompt: [50, 350], think: 30, prefix: 512, prefixes: 4}
)"},
                                                            {"long", R"(
duration: 600
classes:
  - {name: session, prompt: 130560, output: 512}
arrivals:
  - {at: 0, class: session, count: 120}
)"},
                                                            {"mixed-day", R"(
duration: 86400
load: 0.6
classes:
  - {name: chat, share: 0.9, prompt: 2048, output: [64, 448], turns: [1, 6], turn_prompt: [50, 350], think: 30, prefix: 512, prefixes: 4}
  - {name: long, share: 0.1, prompt: 200000, output: [256, 768], turns: [1, 3], turn_prompt: [200, 1000], think: 60, prefix: 512}
)"},
                                                            {"overload", R"(
duration: 60
load: 10
classes:
  - {name: chat, prompt: 2048, output: 256, prefix: 512, prefixes: 4}
)"},
                                                            {"pressure", R"(
duration: 3600
load: 1.2
classes:
  - {name: writer, prompt: [16384, 49152], output: [2048, 16384]}
)"}};

// Reads one document; the first error stays and names its line.
class Reader {
 public:
  explicit Reader(std::string name) : name_(std::move(name)) {}

  Workload Read(const YAML::Node& root);
  const absl::Status& status() const { return status_; }
  void Fail(int line, const std::string& message) {
    if (!status_.ok()) return;
    const std::string place = line >= 0 ? absl::StrCat(": line ", line + 1) : "";
    status_ = absl::InvalidArgumentError(absl::StrCat(name_, place, ": ", message));
  }

 private:
  void Fail(const YAML::Node& at, const std::string& message) { Fail(at.Mark().line, message); }
  // False when `node` is no map, or has a key twice or one that is not among `known`.
  bool Keys(const YAML::Node& node, const std::string& what, const std::set<std::string>& known);
  double Number(const YAML::Node& map, const char* key, double standard, double least, double most);
  int32_t Count(const YAML::Node& value, const char* key, int32_t least, int32_t most);
  TokenRange Range(const YAML::Node& map, const char* key, TokenRange standard, int32_t least, int32_t most);
  std::string Text(const YAML::Node& map, const char* key);
  SessionClass ReadClass(const YAML::Node& node);
  Arrival ReadArrival(const YAML::Node& node, const Workload& workload);
  void CheckSource(const YAML::Node& root, const Workload& workload);

  std::string name_;
  absl::Status status_;
};

bool Reader::Keys(const YAML::Node& node, const std::string& what, const std::set<std::string>& known) {
  if (!node.IsMap()) {
    Fail(node, absl::StrCat(what, " must hold `key: value` entries"));
    return false;
  }
  std::set<std::string> seen;
  for (const auto& entry : node) {
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "?";
    if (!known.contains(key)) Fail(entry.first, absl::StrCat("unknown key ", key, " in ", what));
    if (!seen.insert(key).second) Fail(entry.first, absl::StrCat(key, " is there twice"));
  }
  return status_.ok();
}

double Reader::Number(const YAML::Node& map, const char* key, double standard, double least, double most) {
  const YAML::Node value = map[key];
  if (!value) return standard;
  double number = 0;
  const bool ok = value.IsScalar() && absl::SimpleAtod(value.Scalar(), &number) && std::isfinite(number);
  if (!ok || number < least || number > most) {
    Fail(value, absl::StrCat(key, " must be a number from ", least, " to ", most));
  }
  return number;
}

int32_t Reader::Count(const YAML::Node& value, const char* key, int32_t least, int32_t most) {
  int32_t number = 0;
  const bool ok = value.IsScalar() && absl::SimpleAtoi(value.Scalar(), &number);
  if (!ok || number < least || number > most) {
    Fail(value, absl::StrCat(key, " must be a whole number from ", least, " to ", most));
  }
  return number;
}

TokenRange Reader::Range(const YAML::Node& map, const char* key, TokenRange standard, int32_t least, int32_t most) {
  const YAML::Node value = map[key];
  if (!value) return standard;
  if (!value.IsSequence()) {
    const int32_t number = Count(value, key, least, most);
    return {number, number};
  }
  if (value.size() != 2) {
    Fail(value, absl::StrCat(key, " must be a number or [least, most]"));
    return standard;
  }
  const TokenRange range{Count(value[0], key, least, most), Count(value[1], key, least, most)};
  if (range.least > range.most) Fail(value, absl::StrCat(key, ": the first of [least, most] is the larger"));
  return range;
}

std::string Reader::Text(const YAML::Node& map, const char* key) {
  const YAML::Node value = map[key];
  if (!value || !value.IsScalar() || value.Scalar().empty()) {
    Fail(value ? value : map, absl::StrCat(key, " must be there, a name"));
    return "";
  }
  return value.Scalar();
}

SessionClass Reader::ReadClass(const YAML::Node& node) {
  SessionClass out;
  if (!Keys(node, "a class",
            {"name", "share", "prompt", "output", "turns", "turn_prompt", "think", "prefix", "prefixes"})) {
    return out;
  }
  out.name = Text(node, "name");
  out.share = Number(node, "share", 1, 1e-9, 1e9);
  if (!node["prompt"]) Fail(node, "prompt must be there, in tokens");
  out.prompt = Range(node, "prompt", {}, 1, kMostTokens);
  out.output = Range(node, "output", out.output, 1, kMostTokens);
  out.turns = Range(node, "turns", out.turns, 1, 10000);
  out.turn_prompt = Range(node, "turn_prompt", out.turn_prompt, 1, kMostTokens);
  out.think = Number(node, "think", out.think, 0, kLongest);
  if (node["prefix"]) out.prefix = Count(node["prefix"], "prefix", 0, kMostTokens);
  if (node["prefixes"]) out.prefixes = Count(node["prefixes"], "prefixes", 1, 1 << 20);
  const double longest =
      static_cast<double>(out.prompt.most) +
      static_cast<double>(out.turns.most) * (static_cast<double>(out.output.most) + out.turn_prompt.most);
  if (longest > 2.0 * kMostTokens) Fail(node, absl::StrCat("a session of ", longest, " tokens is too long"));
  return out;
}

Arrival Reader::ReadArrival(const YAML::Node& node, const Workload& workload) {
  Arrival out;
  if (!Keys(node, "an arrival", {"at", "class", "count"})) return out;
  if (!node["at"]) Fail(node, "at must be there, in seconds");
  out.at = Number(node, "at", 0, 0, kLongest);
  if (node["count"]) out.count = Count(node["count"], "count", 1, kMostSessions);
  const std::string name = Text(node, "class");
  for (const SessionClass& each : workload.classes) {
    if (each.name == name) return out;
    ++out.session_class;
  }
  Fail(node, absl::StrCat("no class is called ", name));
  return out;
}

void Reader::CheckSource(const YAML::Node& root, const Workload& workload) {
  const int sources = (root["load"] ? 1 : 0) + (root["rate"] ? 1 : 0) + (root["arrivals"] ? 1 : 0);
  if (sources != 1) Fail(root, "give one of load, rate and arrivals");
  std::set<std::string> names;
  for (const SessionClass& each : workload.classes) {
    if (!names.insert(each.name).second) Fail(root["classes"], absl::StrCat("two classes are called ", each.name));
  }
}

Workload Reader::Read(const YAML::Node& root) {
  Workload out;
  if (!Keys(root, "a workload", {"duration", "load", "rate", "classes", "arrivals"})) return out;
  if (!root["duration"]) Fail(root, "duration must be there, in seconds");
  out.duration = Number(root, "duration", 0, 1e-3, kLongest);
  out.load = Number(root, "load", 0, 1e-6, 1e6);
  out.rate = Number(root, "rate", 0, 1e-9, 1e6);
  const YAML::Node classes = root["classes"], arrivals = root["arrivals"];
  if (!classes || !classes.IsSequence() || classes.size() == 0) {
    Fail(classes ? classes : root, "classes must be a list of at least one");
    return out;
  }
  for (const auto& node : classes) out.classes.push_back(ReadClass(node));
  if (arrivals && (!arrivals.IsSequence() || arrivals.size() == 0)) {
    Fail(arrivals, "arrivals must be a list of at least one");
  } else if (arrivals) {
    for (const auto& node : arrivals) out.arrivals.push_back(ReadArrival(node, out));
  }
  CheckSource(root, out);
  std::stable_sort(out.arrivals.begin(), out.arrivals.end(),
                   [](const Arrival& a, const Arrival& b) { return a.at < b.at; });
  return out;
}

}  // namespace

std::string PresetNames() {
  std::string names;
  for (const auto& [name, text] : kPresets) absl::StrAppend(&names, names.empty() ? "" : ", ", name);
  return names;
}

absl::StatusOr<Workload> ParseWorkload(const std::string& name, const std::string& text) {
  Reader reader(name);
  Workload workload;
  try {
    workload = reader.Read(YAML::Load(text));
  } catch (const YAML::Exception& error) {
    reader.Fail(error.mark.line, error.msg);
  }
  if (!reader.status().ok()) return reader.status();
  return workload;
}

absl::StatusOr<Workload> ReadWorkload(const std::string& source) {
  for (const auto& [name, text] : kPresets) {
    if (source == name) return ParseWorkload(name, text);
  }
  const absl::StatusOr<std::string> text = ReadFile(source, int64_t{64} << 20);
  if (!text.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(text.status().message(), " (a file, or one of the presets ", PresetNames(), ")"));
  }
  return ParseWorkload(source, *text);
}

}  // namespace hysparse
