// A model small enough to count by hand: one full layer, one sparse one that reads it.
#pragma once

#include "engine/model/model_spec.h"

namespace hysparse {

inline ModelSpec SimSpec() {
  ModelSpec spec;
  spec.vocab = 1000;
  spec.hidden = 100;
  spec.intermediate = 300;
  LayerSpec full;
  full.heads = 8;
  full.kv_heads = 2;
  full.qk_dim = full.v_dim = 10;
  LayerSpec sparse = full;
  sparse.kind = LayerKind::kSparse;
  sparse.oracle = 0;
  sparse.window = 128;
  sparse.block = 64;
  sparse.top_blocks = 4;
  spec.layers = {full, sparse};
  return spec;
}

}  // namespace hysparse
