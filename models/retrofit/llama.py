"""The base and what is read from and written for it, without PyTorch: its config, full-layer lists, safetensors, hashes.

What does not fit raises Refused with one line that names the file or flag and what to change.
"""

import contextlib
import hashlib
import json
import math
import pathlib
import struct
import sys

import numpy as np

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parent.parent))
import gguf  # noqa: E402

FULL, SWA, SPARSE = 0, 1, 2
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja")


class Refused(Exception):
    """Bad input, in one line."""


@contextlib.contextmanager
def one_line(program):
    """Ends the program with one line where the input is bad."""
    try:
        yield
    except (Refused, OSError) as error:
        sys.exit(f"{program}: {error}")


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path):
    try:
        return json.loads(pathlib.Path(path).read_text())
    except ValueError as error:
        raise Refused(f"{path} is not JSON: {error}") from None


def base_config(folder):
    """config.json of a base that the recipe can retrofit: a plain llama."""
    path = pathlib.Path(folder) / "config.json"
    config = read_json(path)
    if config.get("model_type") != "llama":
        raise Refused(f"{path}: model_type is {config.get('model_type')!r}; only llama models can be retrofitted")
    rope = config.pop("rope_parameters", None) or {}  # transformers 5
    config.setdefault("rope_theta", rope.get("rope_theta", 10000.0))
    scaling = config.get("rope_scaling") or rope
    scaling = scaling.get("rope_type", scaling.get("type", "default"))
    for key, value, allowed in (("attention_bias", config.get("attention_bias", False), False),
                                ("mlp_bias", config.get("mlp_bias", False), False),
                                ("hidden_act", config.get("hidden_act", "silu"), "silu"), ("rope_scaling", scaling, "default")):
        if value != allowed:
            raise Refused(f"{path}: {key} {value!r} is not supported, only {allowed!r}")
    for key in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
        if not isinstance(config.get(key), int) or config[key] < 1:
            raise Refused(f"{path}: {key} is {config.get(key)!r}, not a positive integer")
    config["num_key_value_heads"] = config.get("num_key_value_heads") or config["num_attention_heads"]
    config["head_dim"] = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    if config["num_attention_heads"] % config["num_key_value_heads"] or config["head_dim"] % 2:
        raise Refused(f"{path}: {config['num_attention_heads']} heads of {config['head_dim']} do not fit "
                      f"{config['num_key_value_heads']} KV heads with RoPE")
    if config["vocab_size"] > 1 << 16:
        raise Refused(f"{path}: vocab_size {config['vocab_size']} is over {1 << 16}, tokens travel as 16 bits")
    return config


def full_layers(text, layers):
    """The ascending list that a flag like "0,3,7" names."""
    try:
        chosen = [int(part) for part in text.split(",")]
    except ValueError:
        raise Refused(f"--full-layers {text!r} is not a list of numbers like 0,3,7") from None
    if len(set(chosen)) < len(chosen):
        raise Refused(f"--full-layers {text} names a layer twice")
    wrong = [layer for layer in chosen if not 0 <= layer < layers]
    if wrong:
        raise Refused(f"--full-layers {text}: layer {wrong[0]} is out of range, the base has layers 0 to {layers - 1}")
    if 0 not in chosen:
        raise Refused(f"--full-layers {text} lacks layer 0, which has no oracle before it")
    if len(chosen) == layers:
        raise Refused(f"--full-layers {text} leaves no layer to retrofit")
    return sorted(chosen)


def student_config(base, full, others, window, block, top):
    """config.json of the student: `others` (SWA or SPARSE) wherever a layer is not full. Gates per head."""
    kept = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
            "head_dim", "rope_theta", "rms_norm_eps", "tie_word_embeddings", "max_position_embeddings", "bos_token_id",
            "eos_token_id", "pad_token_id")
    pattern = [FULL if layer in full else others for layer in range(base["num_hidden_layers"])]
    return {
        "model_type": "hysparse", "architectures": ["HySparseForCausalLM"], **{key: base[key] for key in kept if key in base},
        "hybrid_layer_pattern": pattern, "sliding_window": window, "sparse_block_size": block,
        "sparse_topk_tokens": top * block, "gate_granularity": "head", "add_swa_attention_sink_bias": True,
        "add_sparse_attention_sink_bias": True, "add_swa_output_gate": True, "torch_dtype": "bfloat16",
    }


class Tensors:
    """The tensors of safetensors files as float32 arrays (int8 stays int8), read one at a time."""

    _KINDS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I8": "<i1"}

    def __init__(self, paths):
        self._at, self.metadata = {}, {}
        for path in paths:
            raw = np.memmap(path, np.uint8, "r")
            length = struct.unpack("<Q", bytes(raw[:8]))[0] if len(raw) > 8 else 0
            try:
                header = json.loads(bytes(raw[8 : 8 + length]))
            except ValueError:
                raise Refused(f"{path} is no safetensors file") from None
            self.metadata |= header.pop("__metadata__", {})
            for name, entry in header.items():
                begin, end = (8 + length + offset for offset in entry["data_offsets"])
                if entry["dtype"] not in self._KINDS or end > len(raw):
                    raise Refused(f"{path}: tensor {name} ({entry['dtype']}) cannot be read, or the file is cut short")
                self._at[name] = entry, raw[begin:end]

    def names(self):
        return sorted(self._at)

    def __contains__(self, name):
        return name in self._at

    def shape(self, name):
        return tuple(self._at[name][0]["shape"])

    def __getitem__(self, name):
        entry, raw = self._at[name]
        array = raw.view(self._KINDS[entry["dtype"]]).reshape(entry["shape"])
        if entry["dtype"] == "BF16":
            return gguf.from_bf16(array)
        return np.array(array) if entry["dtype"] == "I8" else array.astype(np.float32)


def base_files(folder):
    paths = sorted(pathlib.Path(folder).glob("*.safetensors"))
    if not paths:
        raise Refused(f"{folder} holds no .safetensors file")
    return paths


def base_tensors(folder, config):
    """Tensors of the base; every one that a llama of that config has is there, in its shape."""
    tensors = Tensors(base_files(folder))
    hidden, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    q, kv = (config[key] * config["head_dim"] for key in ("num_attention_heads", "num_key_value_heads"))
    layer = {"input_layernorm": (hidden,), "post_attention_layernorm": (hidden,), "self_attn.q_proj": (q, hidden),
             "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden), "self_attn.o_proj": (hidden, q),
             "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden), "mlp.down_proj": (hidden, inner)}
    shapes = {"model.embed_tokens.weight": (vocab, hidden), "model.norm.weight": (hidden,)}
    if not config.get("tie_word_embeddings", False):
        shapes["lm_head.weight"] = (vocab, hidden)
    for index in range(config["num_hidden_layers"]):
        shapes |= {f"model.layers.{index}.{name}.weight": shape for name, shape in layer.items()}
    for name, shape in shapes.items():
        if name not in tensors:
            raise Refused(f"{folder}: tensor {name} is missing")
        if tensors.shape(name) != shape:
            raise Refused(f"{folder}: tensor {name} has shape {list(tensors.shape(name))}, not {list(shape)}")
    return tensors, sorted(shapes)


def write_safetensors(path, entries, metadata):
    """Writes [(name, dtype, shape, function that gives the array)] in order, one at a time."""
    sizes = {"F32": 4, "BF16": 2, "I8": 1}
    header, offset = {"__metadata__": {"format": "pt", **metadata}}, 0
    for name, kind, shape, _ in entries:
        end = offset + math.prod(shape) * sizes[kind]
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for _, kind, _, make in entries:
            array = np.ascontiguousarray(make())
            file.write((gguf.bf16_bits(array) if kind == "BF16" else array.astype(Tensors._KINDS[kind])).tobytes())
