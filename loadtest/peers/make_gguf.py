#!/usr/bin/env python3
"""Writes a prepared llama folder as a GGUF for llama.cpp, so that both engines compute with the same weights.

    make_gguf.py FOLDER OUT.gguf [--type F32|BF16]

Norms are F32; matrices are F32 or BF16: exactly the BF16 values of FOLDER either way. Needs numpy. Only what SmolLM2's folder
has: one safetensors file, tied embeddings, byte-level BPE with single digits.
"""
import argparse
import json
import pathlib
import struct
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "models"))
from gguf import from_bf16, write_gguf  # noqa: E402

LAYER = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}
INT32 = 5
FILE_TYPES = {"F32": 0, "BF16": 32}
NORMAL, CONTROL = 1, 3


def read_bf16_safetensors(path):
    raw = path.read_bytes()
    (size,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8 : 8 + size])
    header.pop("__metadata__", None)
    for name, meta in header.items():
        begin, end = meta["data_offsets"]
        if meta["dtype"] != "BF16":
            sys.exit(f"make_gguf.py: {name} is {meta['dtype']}, not BF16")
        yield name, from_bf16(np.frombuffer(raw[8 + size + begin : 8 + size + end], "<u2")).reshape(meta["shape"])


def side_by_side_rows(weight, heads):
    """Rows of each head from (half, pair), Hugging Face's rotate-half order, to (pair, half), llama.cpp's."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def tensors(folder, config, matrix_type):
    out = []
    for name, weight in read_bf16_safetensors(folder / "model.safetensors"):
        heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}.get(name.split(".")[-2])
        if heads:
            weight = side_by_side_rows(weight, heads)
        if name.startswith("model.layers."):
            _, _, layer, rest = name.split(".", 3)
            name = f"blk.{layer}.{LAYER[rest.removesuffix('.weight')]}.weight"
        else:
            name = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}[name]
        out.append((name, weight, "F32" if weight.ndim == 1 else matrix_type))
    return out


def metadata(folder, config, matrix_type):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    special = {token["id"] for token in tokenizer["added_tokens"]}
    tokens = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    return {
        "general.architecture": "llama", "general.name": folder.name, "general.file_type": FILE_TYPES[matrix_type],
        "llama.block_count": config["num_hidden_layers"], "llama.context_length": config["max_position_embeddings"],
        "llama.embedding_length": config["hidden_size"], "llama.feed_forward_length": config["intermediate_size"],
        "llama.attention.head_count": config["num_attention_heads"],
        "llama.attention.head_count_kv": config["num_key_value_heads"],
        "llama.rope.freq_base": config["rope_theta"], "llama.rope.dimension_count": config["head_dim"],
        "llama.attention.layer_norm_rms_epsilon": config["rms_norm_eps"], "llama.vocab_size": config["vocab_size"],
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [CONTROL if i in special else NORMAL for i in range(len(tokens))],
        "tokenizer.ggml.merges": tokenizer["model"]["merges"], "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.bos_token_id": config["bos_token_id"], "tokenizer.ggml.eos_token_id": config["eos_token_id"],
        "tokenizer.ggml.padding_token_id": config["pad_token_id"],
        "tokenizer.chat_template": json.loads((folder / "tokenizer_config.json").read_text())["chat_template"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("out")
    parser.add_argument("--type", choices=FILE_TYPES, default="F32")
    args = parser.parse_args()
    config = json.loads((args.folder / "config.json").read_text())
    if config["model_type"] != "llama" or not config["tie_word_embeddings"]:
        sys.exit("make_gguf.py: only llama folders with tied embeddings")
    write_gguf(args.out, metadata(args.folder, config, args.type), tensors(args.folder, config, args.type),
               kinds={"tokenizer.ggml.token_type": INT32})


if __name__ == "__main__":
    main()
