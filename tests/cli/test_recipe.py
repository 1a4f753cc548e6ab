"""The recipes. SmolLM2's: GGUF reading on whole, truncated and corrupt files; the conversion there and back. models/get.sh."""

import importlib.util
import json
import os
import random
import signal
import struct
import subprocess
import sys

import numpy as np
import pytest

from places import CACHE, ROOT  # first: it sets the path
import gguf
import make_gguf

RECIPE = ROOT / "models" / "smollm2-135m"
spec = importlib.util.spec_from_file_location("convert", RECIPE / "convert.py")
convert = importlib.util.module_from_spec(spec)
spec.loader.exec_module(convert)

HIDDEN, INNER, HEADS, GROUPS, LAYERS, VOCAB = 16, 24, 2, 1, 2, 300
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + [f"t{i}" for i in range(VOCAB - 3)]


def metadata():
    return {
        "general.architecture": "llama", "llama.block_count": LAYERS, "llama.context_length": 128,
        "llama.embedding_length": HIDDEN, "llama.feed_forward_length": INNER, "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": GROUPS, "llama.rope.freq_base": 100000.0,
        "llama.rope.dimension_count": HIDDEN // HEADS, "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": [3, 3, 3] + [1] * (VOCAB - 3), "tokenizer.ggml.merges": ["t 1", "t 2"],
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0, "tokenizer.chat_template": "{{ messages }}",
    }


def tensors(seed=1):
    rng = np.random.default_rng(seed)
    q, kv = HIDDEN, HIDDEN // HEADS * GROUPS
    layer = {"attn_norm": (HIDDEN,), "ffn_norm": (HIDDEN,), "attn_q": (q, HIDDEN), "attn_k": (kv, HIDDEN), "attn_v": (kv, HIDDEN),
             "attn_output": (HIDDEN, q), "ffn_gate": (INNER, HIDDEN), "ffn_up": (INNER, HIDDEN), "ffn_down": (HIDDEN, INNER)}
    shapes = {"token_embd.weight": (VOCAB, HIDDEN), "output_norm.weight": (HIDDEN,)}
    shapes |= {f"blk.{i}.{name}.weight": shape for i in range(LAYERS) for name, shape in layer.items()}
    return [(name, gguf.from_bf16(gguf.bf16_bits(rng.standard_normal(shape, np.float32))), "F32") for name, shape in shapes.items()]


@pytest.fixture
def file(tmp_path):
    gguf.write_gguf(tmp_path / "tiny.gguf", metadata(), tensors(), kinds={"tokenizer.ggml.token_type": 5})
    return tmp_path / "tiny.gguf"


def test_a_file_reads_back_as_written(file):
    read = gguf.Gguf(file.read_bytes())
    written = metadata()
    written["llama.attention.layer_norm_rms_epsilon"] = pytest.approx(1e-5)
    assert read.metadata == written
    assert {name: tensor.shape for name, tensor in read.tensors.items()} == {name: array.shape for name, array, _ in tensors()}
    for name, array, _ in tensors():
        assert np.array_equal(read.tensors[name].float32(), array)


# The layouts of ggml's blocks, one weight at a time.
def test_q8_0_is_scale_times_byte():
    quants = np.arange(-16, 16, dtype=np.int8)
    raw = struct.pack("<e", 0.125) + quants.tobytes()
    assert np.array_equal(gguf.Tensor("t", (1, 32), "Q8_0", raw).float32()[0], quants * np.float32(0.125))


def test_q4_1_is_scale_times_nibble_plus_minimum():
    low, high = np.arange(16), np.arange(16)[::-1]
    raw = struct.pack("<ee", 0.5, -3.0) + bytes((low | high << 4).astype(np.uint8))
    expected = np.concatenate([low, high]) * np.float32(0.5) - np.float32(3.0)
    assert np.array_equal(gguf.Tensor("t", (1, 32), "Q4_1", raw).float32()[0], expected)


def test_bf16_rounds_to_nearest_even():
    values = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 3.14159274], np.float32)
    assert list(gguf.from_bf16(gguf.bf16_bits(values))) == [1.0, 1.0, 1 + 2**-6, -1.0, 3.140625]


def test_every_truncation_is_an_error(file):
    raw = file.read_bytes()
    header = raw.index(b"\0" * 8, len(raw) - 40000) if len(raw) > 40000 else len(raw)
    for size in [*range(0, 600), *range(600, len(raw), max(1, header // 300)), len(raw) - 1]:
        with pytest.raises(gguf.GgufError):
            gguf.Gguf(raw[:size])


def test_corrupt_files_are_errors_or_read(file):
    raw = file.read_bytes()
    rng = random.Random(3)
    refused = 0
    for _ in range(3000):
        broken = bytearray(raw)
        at = rng.randrange(4, 12000)
        for i in range(rng.choice([1, 4, 8])):
            broken[min(at + i, len(broken) - 1)] = rng.choice([0, 0xFF, 0x7F, rng.randrange(256)])
        try:
            read = gguf.Gguf(bytes(broken), "broken.gguf")
            convert.check_tensors(read, convert.config(read.metadata)[0])
            convert.tokenizer(read.metadata)
        except gguf.GgufError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 300


@pytest.mark.parametrize("change, message", [
    ({"general.architecture": "gpt2"}, "is not llama"),
    ({"llama.block_count": None}, "llama.block_count is missing"),
    ({"llama.block_count": 3}, "model.layers.2"),
    ({"llama.block_count": 1}, "no place in a model of 1 layers"),
    ({"llama.feed_forward_length": 25}, "has shape"),
    ({"llama.attention.head_count": 3}, "do not fit"),
    ({"tokenizer.ggml.pre": "llama-bpe"}, "is not gpt2/smollm"),
    ({"tokenizer.chat_template": None}, "tokenizer.chat_template is missing"),
])
def test_what_the_recipe_refuses(tmp_path, change, message):
    entries = {key: value for key, value in {**metadata(), **change}.items() if value is not None}
    gguf.write_gguf(tmp_path / "t.gguf", entries, tensors(), kinds={"tokenizer.ggml.token_type": 5})
    done = run_convert(tmp_path / "t.gguf", tmp_path / "out")
    assert done.returncode == 1 and message in done.stderr and len(done.stderr.splitlines()) == 1
    assert os.listdir(tmp_path) == ["t.gguf"]


def run_convert(source, folder):
    return subprocess.run([sys.executable, RECIPE / "convert.py", source, folder], capture_output=True, text=True)


def test_the_conversion_keeps_every_weight_and_undoes_llama_cpps_row_order(file, tmp_path):
    folder = tmp_path / "tiny"
    assert run_convert(file, folder).returncode == 0
    assert sorted(os.listdir(folder)) == ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
                                          "tokenizer_config.json"]
    written = {name: array for name, array, _ in tensors()}
    read = dict(make_gguf.read_bf16_safetensors(folder / "model.safetensors"))
    assert np.array_equal(read["model.layers.1.mlp.down_proj.weight"], written["blk.1.ffn_down.weight"])
    # Pair j of a head lies in rows 2j and 2j + 1 for llama.cpp, in rows j and j + half for rotate-half.
    q, permuted = read["model.layers.0.self_attn.q_proj.weight"], written["blk.0.attn_q.weight"]
    size = HIDDEN // HEADS
    for head in range(HEADS):
        for j in range(size // 2):
            for half in (0, 1):
                assert np.array_equal(q[head * size + half * size // 2 + j], permuted[head * size + 2 * j + half])
    # and back again
    subprocess.run([ROOT / "loadtest" / "peers" / "make_gguf.py", folder, tmp_path / "again.gguf"], check=True,
                   env={**os.environ, "PATH": os.path.dirname(sys.executable) + ":" + os.environ["PATH"]})
    again = gguf.Gguf((tmp_path / "again.gguf").read_bytes())
    for name, array in written.items():
        assert np.array_equal(again.tensors[name].float32(), array), name
    for key in ("llama.rope.freq_base", "tokenizer.ggml.tokens", "tokenizer.ggml.merges", "llama.attention.head_count_kv"):
        assert again.metadata[key] == metadata()[key]


def test_an_interrupted_conversion_leaves_nothing(file, tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "write_weights", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        convert.convert(gguf.Gguf(file.read_bytes()), tmp_path / "tiny")
    assert os.listdir(tmp_path) == ["tiny.gguf"]


def test_get_refuses_unknown_names():
    for name in ("nosuch", "../models/smollm2-135m", ""):
        done = subprocess.run([ROOT / "models" / "get.sh", name], capture_output=True, text=True)
        assert done.returncode == 2 and "smollm2-135m" in done.stderr


@pytest.fixture
def cache(tmp_path):
    """A cache with the real download and environment, and no model."""
    (tmp_path / "models").mkdir()
    for name in ["downloads", *(path.name for path in CACHE.glob("venv-models-*"))]:
        if (CACHE / name).exists():
            (tmp_path / name).symlink_to(CACHE / name)
    return tmp_path


def get(cache, name="smollm2-135m"):
    return subprocess.Popen([ROOT / "models" / "get.sh", name], env={**os.environ, "HYSPARSE_CACHE": str(cache)},
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def test_get_makes_the_model_again_when_it_is_damaged_or_half_made(cache):
    model = cache / "models" / "smollm2-135m"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (cache / "models" / ".smollm2-135m.partial-1").mkdir()
    first = get(cache)
    out, err = first.communicate(timeout=300)
    assert first.returncode == 0, err
    assert out.strip() == str(model) and json.loads((model / "config.json").read_text())["hidden_size"] == 576
    assert sorted(path.name for path in (cache / "models").iterdir()) == [".lock", "smollm2-135m"]
    second = get(cache)
    out, err = second.communicate(timeout=60)
    assert (second.returncode, out.strip(), err) == (0, str(model), "")


def test_get_interrupted_leaves_no_model(cache):
    running = get(cache)
    while running.poll() is None and not list((cache / "models").glob(".smollm2-135m.partial-*")):
        pass
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    assert not (cache / "models" / "smollm2-135m").exists()


def test_hysparse_mini_needs_neither_network_nor_python(tmp_path):
    model = tmp_path / "models" / "hysparse-mini"
    for damage in (lambda: None, lambda: (model / "config.json").write_text("{}")):
        damage()
        out, err = (running := get(tmp_path, "hysparse-mini")).communicate(timeout=60)
        assert (running.returncode, out.strip()) == (0, str(model)), err
        assert json.loads((model / "config.json").read_text())["model_type"] == "hysparse"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["downloads", "models"]
