#include "server/app.h"

#include <algorithm>
#include <utility>

namespace hysparse {

App::App(ServerOptions options)
    : options_(std::move(options)),
      auth_(options_.api_keys),
      metrics_(slot_),
      health_(slot_, gate_, options_.stall_timeout),
      request_pool_(std::max(1, options_.worker_threads)),
      text_pool_(1),
      router_(*this),
      http_(options_, router_) {}

App::~App() { Stop(); }

absl::Status App::Listen() { return http_.Listen(); }

void App::AttachModel(std::unique_ptr<ServedModel> model) {
  slot_.Set(std::move(model));
  health_.SetProgress(1.0);
}

bool App::Drain() {
  gate_.Close();
  return gate_.WaitEmpty(options_.drain_timeout);
}

void App::Stop() {
  if (std::exchange(stopped_, true)) return;
  gate_.Close();
  http_.Stop();
  // Ends every sequence and answers every question, so that the last outputs and quotes reach the pools before these
  // are joined.
  if (const auto model = slot_.Get()) model->engine->Stop();
  request_pool_.join();
  text_pool_.join();
  slot_.Set(nullptr);
}

}  // namespace hysparse
