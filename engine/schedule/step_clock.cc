#include "engine/schedule/step_clock.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace hysparse {
namespace {

constexpr double kFade = 0.999;
constexpr double kRidge = 1e-9;  // of terms scaled to length 1
// The first decodes stand a few tokens deep, and what noise says of depth there would be multiplied by thousands. So
// the fit starts as if a step a thousand tokens deep had taken no time for it, which real depths soon outweigh.
constexpr double kDepthPrior = 0.5 * 1000 * 1000;

using Row = std::array<double, 5>;

// Gaussian elimination with pivoting of a positive definite system; the fifth column is the right-hand side.
std::array<double, 4> Solve(std::array<Row, 4> rows) {
  for (size_t i = 0; i < 4; ++i) {
    size_t pivot = i;
    for (size_t r = i + 1; r < 4; ++r) pivot = std::abs(rows[r][i]) > std::abs(rows[pivot][i]) ? r : pivot;
    std::swap(rows[i], rows[pivot]);
    for (size_t r = i + 1; r < 4; ++r) {
      const double factor = rows[r][i] / rows[i][i];
      for (size_t c = i; c < 5; ++c) rows[r][c] -= factor * rows[i][c];
    }
  }
  std::array<double, 4> x{};
  for (size_t i = 4; i-- > 0;) {
    double sum = rows[i][4];
    for (size_t c = i + 1; c < 4; ++c) sum -= rows[i][c] * x[c];
    x[i] = sum / rows[i][i];
  }
  return x;
}

}  // namespace

StepWork MeasureStep(const StepPlan& plan, const StepCost& cost) {
  StepWork work;
  for (const PlannedChunk& chunk : plan.chunks) {
    if (chunk.tokens.size() == 1) {
      work.decodes += 1;
      work.depth += chunk.position;
    } else {
      work.prefill_cost += cost.Of(chunk.position, chunk.tokens.size());
    }
  }
  return work;
}

void StepClock::Observe(const StepWork& work, double seconds) {
  if (!(seconds > 0) || work.prefill_cost + work.decodes <= 0) return;
  const std::array<double, kTerms> terms = {1, work.prefill_cost, work.decodes, work.depth};
  const double weight = 1 / (1 + work.prefill_cost + work.decodes);
  for (size_t i = 0; i < kTerms; ++i) {
    for (size_t j = 0; j < kTerms; ++j) products_[i][j] = kFade * products_[i][j] + weight * terms[i] * terms[j];
    targets_[i] = kFade * targets_[i] + weight * terms[i] * seconds;
  }
}

StepRates StepClock::Rates() const {
  StepRates rates;
  rates.known = products_[1][1] > 0;
  if (!rates.known) return rates;
  std::array<bool, kTerms> out{};  // terms that count nothing
  for (size_t i = 0; i < kTerms; ++i) out[i] = products_[i][i] <= 0;
  auto products = products_;
  products[3][3] += kDepthPrior;
  std::array<double, kTerms> fit{};
  for (size_t round = 0; round < kTerms; ++round) {
    std::array<Row, kTerms> rows{};
    for (size_t i = 0; i < kTerms; ++i) {
      rows[i][i] = 1;
      if (out[i]) continue;
      for (size_t j = 0; j < kTerms; ++j) {
        if (!out[j]) rows[i][j] = products[i][j] / std::sqrt(products[i][i] * products[j][j]);
      }
      rows[i][i] += kRidge;
      rows[i][kTerms] = targets_[i] / std::sqrt(products[i][i]);
    }
    fit = Solve(rows);
    const size_t least = static_cast<size_t>(std::min_element(fit.begin(), fit.end()) - fit.begin());
    if (fit[least] >= 0) break;
    out[least] = true;
    fit[least] = 0;
  }
  const auto rate = [&](size_t i) { return out[i] ? 0 : std::max(0.0, fit[i] / std::sqrt(products[i][i])); };
  rates.base = rate(0);
  rates.per_cost = rate(1);
  rates.per_decode = rate(2);
  rates.per_depth = rate(3);
  return rates;
}

}  // namespace hysparse
