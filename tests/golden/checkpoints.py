"""Random HySparse checkpoints for the golden suites: the reference's presets and hand-made shapes beside them."""

import json
import pathlib

import numpy as np

import hysparse_reference as reference

PRESETS = ["tiny-full", "tiny-swa", "tiny-hysparse", "tiny-hysparse-vdim", "tiny-hysparse-moe"]

# What the presets do not have: (config keys over the reference's base, what make() does not write).
HAND_MADE = {
    "group-of-1": dict(num_hidden_layers=3, hybrid_layer_pattern=[0, 2, 0], num_attention_heads=4, num_key_value_heads=4),
    "group-of-3": dict(num_hidden_layers=3, hybrid_layer_pattern=[0, 2, 2], num_attention_heads=6, num_key_value_heads=2),
    "group-of-16": dict(num_hidden_layers=3, hybrid_layer_pattern=[0, 2, 0], num_attention_heads=16, num_key_value_heads=1),
    "wide-values": dict(num_hidden_layers=3, hybrid_layer_pattern=[0, 2, 2], head_dim=16, v_head_dim=40),
    "narrow-values": dict(
        num_hidden_layers=3, hybrid_layer_pattern=[0, 2, 0], head_dim=40, v_head_dim=8, gate_granularity="head",
    ),
    "no-sinks": dict(
        num_hidden_layers=4, hybrid_layer_pattern=[0, 2, 1, 2], add_swa_attention_sink_bias=False,
        add_sparse_attention_sink_bias=False,
    ),
    "all-kinds": dict(
        num_hidden_layers=7, hybrid_layer_pattern=[1, 0, 2, 1, 2, 0, 2], swa_num_attention_heads=4,
        swa_num_key_value_heads=1, swa_head_dim=32, swa_v_head_dim=24, swa_rope_theta=500.0, add_swa_output_gate=True,
        add_full_output_gate=True, add_full_attention_sink_bias=True, partial_rotary_factor=0.5,
    ),
    "blocks-of-32": dict(
        num_hidden_layers=3, hybrid_layer_pattern=[0, 2, 2], sparse_block_size=32, sparse_topk_tokens=64, sliding_window=64,
    ),
    "blocks-of-48": dict(
        num_hidden_layers=3, hybrid_layer_pattern=[0, 2, 2], sparse_block_size=48, sparse_topk_tokens=96, sliding_window=50,
    ),
    "blocks-of-128": dict(
        num_hidden_layers=3, hybrid_layer_pattern=[0, 2, 2], sparse_block_size=128, sparse_topk_tokens=128,
    ),
    "fewer-blocks-than-k": dict(
        num_hidden_layers=3, hybrid_layer_pattern=[0, 2, 2], sparse_block_size=64, sparse_topk_tokens=1024, sliding_window=128,
    ),
    "biases-and-experts": dict(
        num_hidden_layers=4, hybrid_layer_pattern=[0, 2, 1, 0], moe_layer_freq=[0, 1, 1, 1], n_routed_experts=6,
        num_experts_per_tok=3, moe_intermediate_size=24, n_shared_experts=2, scoring_func="softmax", topk_method="greedy",
        norm_topk_prob=False, routed_scaling_factor=2.5, attention_bias=True, attention_value_scale=0.707, use_qk_norm=True,
    ),
}


def _complete(folder, seed):
    """Adds what the reference's make() leaves out: gates of SWA layers, sinks of full layers, biases, shared experts."""
    spec, tensors = reference.load(folder)
    rng = np.random.default_rng(1000 + seed)
    hidden = spec.raw["hidden_size"]
    for layer, kind in enumerate(spec.pattern):
        n, g, d, e, _ = spec.heads(kind)
        a = f"model.layers.{layer}.self_attn."
        width = n if spec.get("gate_granularity", "channel") == "head" else n * e
        if kind == reference.SWA and spec.get("add_swa_output_gate", False):
            tensors[a + "gate_proj.weight"] = rng.standard_normal((width, hidden)) * hidden**-0.5
        if kind == reference.FULL and spec.get("add_full_attention_sink_bias", False):
            tensors[a + "attention_sink_bias"] = rng.standard_normal(n)
        if spec.get("attention_bias", False):
            for name, size in (("q", n * d), ("k", g * d), ("v", g * e)):
                tensors[f"{a}{name}_proj.bias"] = rng.standard_normal(size) * 0.3
        if spec.get("n_shared_experts", 0) and spec.raw["moe_layer_freq"][layer]:
            wide = spec.raw["n_shared_experts"] * spec.raw["moe_intermediate_size"]
            for name, shape in (("gate", (wide, hidden)), ("up", (wide, hidden)), ("down", (hidden, wide))):
                key = f"model.layers.{layer}.mlp.shared_experts.{name}_proj.weight"
                tensors[key] = rng.standard_normal(shape) * shape[-1] ** -0.5
    reference.write_safetensors(pathlib.Path(folder) / "model.safetensors", tensors)


def make(folder, name, seed):
    """Writes the preset or hand-made checkpoint `name`; returns its folder."""
    folder = pathlib.Path(folder)
    if name in PRESETS:
        reference.make(folder, name, seed)
        return folder
    reference.PRESETS[name] = HAND_MADE[name]
    try:
        reference.make(folder, name, seed)
    finally:
        del reference.PRESETS[name]
    _complete(folder, seed)
    return folder


def vocabulary(folder):
    return json.loads((pathlib.Path(folder) / "config.json").read_text())["vocab_size"]


def prompt(length, seed, vocab=320):
    """Random ids with repeats at a distance, so that some far keys matter."""
    rng = np.random.default_rng(7919 * seed + length)
    tokens = rng.integers(0, vocab, length)
    for start in range(40, length - 8, 53):
        source = int(rng.integers(0, start - 8))
        tokens[start : start + 8] = tokens[source : source + 8]
    return tokens.tolist()
