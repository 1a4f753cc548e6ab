// Faults that a kernel or the KV cache could have, each alone: the CPU backend with one thing wrong. Test code; what is
// planted is found by tests/functional, which asks the model questions.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/ops.h"

namespace hysparse::faulty {

// The fault of that name around `inner`; null: there is none of that name.
std::unique_ptr<Backend> PlantFault(const std::string& name, std::unique_ptr<Backend> inner);

std::vector<std::string> FaultNames();

}  // namespace hysparse::faulty
