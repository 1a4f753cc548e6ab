#include "engine/model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "absl/strings/str_cat.h"

namespace hysparse {
namespace {

constexpr double kTwoPi = 2.0 * std::numbers::pi;

// Frequencies whose wavelength exceeds the original context are divided by `factor`, the short ones kept, and those in
// between blended (Llama 3.1).
void ScaleLlama3(const RopeKeys& keys, std::vector<double>& freq) {
  const double factor = keys.factor.value_or(1.0);
  for (double& f : freq) {
    const double turns = keys.original_context * f / kTwoPi;  // rotations within the original context
    if (turns < keys.low_freq_factor) {
      f /= factor;
    } else if (turns <= keys.high_freq_factor) {
      const double keep = (turns - keys.low_freq_factor) / (keys.high_freq_factor - keys.low_freq_factor);
      f = (1.0 - keep) * f / factor + keep * f;
    }
  }
}

// YaRN (arXiv 2309.00071): interpolate the slow dims, keep the fast ones, ramp between beta_slow and beta_fast
// rotations.
void ScaleYarn(const RopeKeys& keys, double factor, int32_t dim, std::vector<double>& freq) {
  const auto dim_of_turns = [&](double turns) {
    return dim * std::log(keys.original_context / (turns * kTwoPi)) / (2.0 * std::log(keys.theta));
  };
  double low = dim_of_turns(keys.beta_fast), high = dim_of_turns(keys.beta_slow);
  if (keys.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1.0);
  if (low == high) high += 0.001;  // transformers' guard against a ramp of no width
  for (size_t j = 0; j < freq.size(); ++j) {
    const double interpolate = std::clamp((static_cast<double>(j) - low) / (high - low), 0.0, 1.0);
    freq[j] = freq[j] / factor * interpolate + freq[j] * (1.0 - interpolate);
  }
}

double YarnMagnitude(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

double YarnAttentionFactor(const RopeKeys& keys, double factor) {
  if (keys.attention_factor) return *keys.attention_factor;
  if (keys.mscale.value_or(0.0) != 0.0 && keys.mscale_all_dim.value_or(0.0) != 0.0)
    return YarnMagnitude(factor, *keys.mscale) / YarnMagnitude(factor, *keys.mscale_all_dim);
  return YarnMagnitude(factor, 1.0);
}

// The object with the parameters of a layer type, and whether it is that type's own (nested) or common to all.
struct RopeObject {
  std::optional<JsonReader> object;
  bool nested = false;
};

RopeObject FindRopeObject(JsonReader& config, const std::string& layer_type) {
  std::optional<JsonReader> object = config.Object("rope_scaling");
  if (!object) object = config.Object("rope_parameters");
  if (!object || (!object->Has("full_attention") && !object->Has("sliding_attention"))) return {object, false};
  if (object->IsNull(layer_type)) object->Fail(layer_type, "is null: layers without RoPE are not supported");
  return {object->Object(layer_type), true};
}

std::optional<double> OptionalNumber(JsonReader& object, const std::string& key) {
  if (!object.Has(key)) return std::nullopt;
  return object.Number(key, {.fallback = 1.0, .min = 0.0, .max = 1e9});
}

void ReadScaling(JsonReader& object, JsonReader& config, int32_t max_context, RopeKeys& keys) {
  keys.type = object.String(object.Has("rope_type") ? "rope_type" : "type", "default");
  if (keys.type == "default") keys.type = "none";
  if (keys.type == "none") return;
  if (keys.type != "linear" && keys.type != "llama3" && keys.type != "yarn") {
    object.Fail("rope_type", absl::StrCat("'", keys.type, "' is not supported; default, linear, llama3 and yarn are"));
    return;
  }
  constexpr double kLargest = 1e9;
  keys.original_context = config.Number(
      "original_max_position_embeddings",
      {.fallback = object.Number("original_max_position_embeddings",
                                 {.fallback = static_cast<double>(max_context), .min = 1.0, .max = kLargest}),
       .min = 1.0,
       .max = kLargest});
  if (keys.type != "yarn" || object.Has("factor"))
    keys.factor = object.Number("factor", {.fallback = std::nullopt, .min = 1e-6, .max = kLargest});
  if (keys.type == "llama3") {
    keys.low_freq_factor = object.Number("low_freq_factor", {.fallback = std::nullopt, .min = 1e-6, .max = kLargest});
    keys.high_freq_factor = object.Number("high_freq_factor", {.fallback = std::nullopt, .min = 1e-6, .max = kLargest});
    if (keys.high_freq_factor <= keys.low_freq_factor)
      object.Fail("high_freq_factor", "must be greater than low_freq_factor");
    return;
  }
  if (keys.type != "yarn") return;
  keys.beta_fast = object.Number("beta_fast", {.fallback = 32.0, .min = 1e-6, .max = kLargest});
  keys.beta_slow = object.Number("beta_slow", {.fallback = 1.0, .min = 1e-6, .max = kLargest});
  keys.attention_factor = OptionalNumber(object, "attention_factor");
  keys.mscale = OptionalNumber(object, "mscale");
  keys.mscale_all_dim = OptionalNumber(object, "mscale_all_dim");
  keys.truncate = object.Bool("truncate", true);
}

}  // namespace

RopeKeys ReadRopeKeys(JsonReader& config, const RopeDefaults& defaults, int32_t max_context) {
  RopeKeys keys;
  const NumberRange theta = {.fallback = defaults.theta, .min = 1.0 + 1e-6, .max = 1e15};
  const NumberRange partial = {.fallback = defaults.partial, .min = 0.0, .max = 1.0};
  keys.theta = config.Number(defaults.theta_key, theta);
  keys.partial = config.Number("partial_rotary_factor", partial);
  if (auto [object, nested] = FindRopeObject(config, defaults.layer_type); object) {
    // A common object speaks for the full layers first: the window layers' own key outranks it.
    if (nested || defaults.theta_key == "rope_theta" || !config.Has(defaults.theta_key))
      keys.theta = object->Number("rope_theta", {.fallback = keys.theta, .min = theta.min, .max = theta.max});
    keys.partial = object->Number("partial_rotary_factor", {.fallback = keys.partial, .min = 0.0, .max = 1.0});
    ReadScaling(*object, config, max_context, keys);
  }
  return keys;
}

RopeSpec MakeRope(const RopeKeys& keys, int32_t head_dim, int32_t max_context) {
  RopeSpec rope;
  rope.theta = keys.theta;
  rope.scaling = keys.type;
  rope.rotary_dim = static_cast<int32_t>(head_dim * keys.partial) / 2 * 2;
  std::vector<double> freq;
  for (int32_t i = 0; i < rope.rotary_dim; i += 2)
    freq.push_back(std::pow(keys.theta, -static_cast<double>(i) / rope.rotary_dim));
  if (keys.type == "linear") {
    for (double& f : freq) f /= *keys.factor;
  } else if (keys.type == "llama3") {
    ScaleLlama3(keys, freq);
  } else if (keys.type == "yarn") {
    const double factor = keys.factor.value_or(max_context / keys.original_context);
    ScaleYarn(keys, factor, rope.rotary_dim, freq);
    rope.attention_factor = static_cast<float>(YarnAttentionFactor(keys, factor));
  }
  rope.inv_freq.assign(freq.begin(), freq.end());
  return rope;
}

}  // namespace hysparse
