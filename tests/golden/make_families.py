#!/usr/bin/env python3
"""Makes families/: tiny random checkpoints of each model family as transformers writes them, and what transformers computes.

    python make_families.py            (needs torch and transformers 5.23; the results are committed)

Per case: families/NAME/{config.json, *.safetensors, expected.npz (tokens, logprobs [T, V] in fp32)} and, where it says
something new, config_4x.json: the same model's config.json in the layout of transformers 4.x or of the model's hub page.
"""

import json
import pathlib
import shutil

import numpy as np
import torch
import transformers

OUT = pathlib.Path(__file__).parent / "families"
BASE = dict(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=256, bos_token_id=1, eos_token_id=2,
)
LLAMA3 = dict(
    rope_type="llama3", rope_theta=500.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=64,
)
YARN = dict(rope_type="yarn", rope_theta=800.0, factor=4.0, original_max_position_embeddings=64)
MIMO_ROPE = {
    "full_attention": dict(rope_type="default", rope_theta=5000.0, partial_rotary_factor=0.5),
    "sliding_attention": dict(rope_type="default", rope_theta=100.0, partial_rotary_factor=0.5),
}

# name: (config class, keys over BASE, dtype of the file, keys of config_4x.json; None there removes a key)
CASES = {
    "llama-llama3": ("LlamaConfig", dict(rope_parameters=LLAMA3, tie_word_embeddings=True), "bfloat16",
                     dict(rope_theta=500.0, rope_scaling={k: v for k, v in LLAMA3.items() if k != "rope_theta"})),
    "llama-linear-biases": ("LlamaConfig", dict(
        rope_parameters=dict(rope_type="linear", rope_theta=300.0, factor=2.5), attention_bias=True, mlp_bias=True,
        head_dim=16, num_key_value_heads=1), "float16",
                            dict(rope_theta=300.0, rope_scaling={"type": "linear", "factor": 2.5})),
    "llama-yarn": ("LlamaConfig", dict(head_dim=16, num_key_value_heads=1, rope_parameters=dict(
        YARN, rope_theta=50.0, beta_fast=3.0, beta_slow=0.25, truncate=False)), "bfloat16", None),
    "mistral-window": ("MistralConfig", dict(sliding_window=12, num_key_value_heads=4), "bfloat16",
                       dict(rope_theta=10000.0)),
    "mistral-full": ("MistralConfig", dict(sliding_window=None, rope_parameters=dict(rope_type="default", rope_theta=1e6)),
                     "float32", None),
    "qwen2-yarn": ("Qwen2Config", dict(
        rope_parameters=dict(YARN, attention_factor=1.3), tie_word_embeddings=True), "bfloat16",
                   dict(rope_theta=800.0, rope_scaling={k: v for k, v in dict(YARN, attention_factor=1.3).items()
                                                        if k != "rope_theta"})),
    "qwen2-window": ("Qwen2Config", dict(
        num_hidden_layers=3, use_sliding_window=True, sliding_window=9, max_window_layers=1), "bfloat16",
                     dict(rope_theta=10000.0, layer_types=None)),
    "qwen3": ("Qwen3Config", dict(head_dim=16, attention_bias=True, rope_parameters=dict(
        YARN, mscale=0.9, mscale_all_dim=0.5)), "bfloat16", None),
    "qwen3-sharded": ("Qwen3Config", dict(head_dim=8), "bfloat16", dict(rope_theta=10000.0, layer_types=None)),
    "qwen3-moe": ("Qwen3MoeConfig", dict(
        num_hidden_layers=3, head_dim=8, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=16,
        mlp_only_layers=[1]), "bfloat16", dict(rope_theta=10000.0, num_experts=6, num_local_experts=None)),
    "qwen3-moe-step": ("Qwen3MoeConfig", dict(
        head_dim=8, num_experts=5, num_experts_per_tok=3, moe_intermediate_size=16, decoder_sparse_step=2,
        norm_topk_prob=True, use_sliding_window=True, sliding_window=10), "float16", None),
    "mimo-v2-flash": ("MiMoV2FlashConfig", dict(
        num_hidden_layers=3, head_dim=16, v_head_dim=8, num_key_value_heads=1, sliding_window=9,
        layer_types=["full_attention", "sliding_attention", "full_attention"], mlp_layer_types=["dense", "sparse", "sparse"],
        rope_parameters=MIMO_ROPE, n_routed_experts=6, num_experts_per_tok=2, moe_intermediate_size=16,
        routed_scaling_factor=1.5), "bfloat16", dict(
            layer_types=None, mlp_layer_types=None, rms_norm_eps=None, layernorm_epsilon=1e-5, rope_theta=5000.0,
            swa_rope_theta=100.0, partial_rotary_factor=0.5, hybrid_layer_pattern=[0, 1, 0], moe_layer_freq=[0, 1, 1],
            sliding_window=8, sliding_window_size=8, swa_num_key_value_heads=2, swa_num_attention_heads=4,
            swa_head_dim=16, swa_v_head_dim=8, add_swa_attention_sink_bias=True, add_full_attention_sink_bias=False,
            scoring_func="sigmoid", topk_method="noaux_tc", n_shared_experts=None, quantization_config=None)),
}


def randomize(model, generator):
    """Weights that keep activations of order one and attention peaked, exact in the file's dtype."""
    with torch.no_grad():
        tensors = list(model.named_parameters()) + [
            (name, buffer) for name, buffer in model.named_buffers() if name.endswith("e_score_correction_bias")]
        for name, tensor in tensors:
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("e_score_correction_bias"):
                value = 0.1 * noise
            elif "norm" in name:
                value = 1 + 0.1 * noise
            elif tensor.dim() == 1:
                value = noise if name.endswith("sinks") else 0.3 * noise
            elif "embed" in name:
                value = noise
            else:
                value = noise * tensor.shape[-1] ** -0.5 * (2 if "q_proj" in name or "k_proj" in name or ".gate.weight" in name else 1)
            tensor.copy_(value)


def old_layout(config, changes):
    """config.json as transformers 4.x wrote it."""
    config = {key: value for key, value in config.items() if key != "rope_parameters"}
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.51.0"
    for key, value in changes.items():
        config[key] = value
        if value is None and key not in ("routed_scaling_factor", "n_shared_experts", "quantization_config"):
            del config[key]
    return config


def make(name, index):
    kind, keys, dtype, old = CASES[name]
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    config = getattr(transformers, kind)(**dict(BASE, **keys))
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(index)
    randomize(model, generator)
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size="16KB" if "sharded" in name else "1GB")
    (folder / "generation_config.json").unlink(missing_ok=True)
    # What was written, read back and run in fp32.
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    tokens = torch.randint(0, BASE["vocab_size"], (1, 48), generator=generator)
    with torch.no_grad():
        logprobs = model(tokens).logits[0].log_softmax(-1)
    np.savez_compressed(folder / "expected.npz", tokens=tokens[0].numpy().astype(np.int32),
                        logprobs=logprobs.numpy().astype(np.float32))
    if old is not None:
        raw = json.loads((folder / "config.json").read_text())
        (folder / "config_4x.json").write_text(json.dumps(old_layout(raw, old), indent=1) + "\n")


def main():
    torch.set_num_threads(1)
    for index, name in enumerate(CASES):
        make(name, index)
        size = sum(path.stat().st_size for path in (OUT / name).iterdir())
        print(f"{name}: {size} bytes")


if __name__ == "__main__":
    main()
