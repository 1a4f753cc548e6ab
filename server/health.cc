#include "server/health.h"

namespace hysparse {

bool Health::Stalled() const {
  const auto model = slot_.Get();
  return model != nullptr && model->engine->Stats().seconds_since_step > std::chrono::duration<double>(stall_).count();
}

Health::Report Health::Live() const {
  if (Stalled()) return {false, "stalled", progress_};
  return {true, "live", progress_};
}

Health::Report Health::Ready() const {
  if (gate_.closed()) return {false, "draining", progress_};
  const Report started = Started();
  if (!started.ok) return started;
  if (Stalled()) return {false, "stalled", 1.0};
  return {true, "ready", 1.0};
}

Health::Report Health::Started() const {
  if (failed_) return {false, "failed", progress_};
  if (slot_.Get() == nullptr) return {false, "loading", progress_};
  return {true, "started", 1.0};
}

}  // namespace hysparse
