"""The retrofit recipe (models/retrofit) without PyTorch: what it refuses, its data, 8-bit differences, merging, and that the
engine computes a merged student as the reference does. retrofit_toy.py beside it goes the whole way, training included."""

import json
import lzma
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import checkpoints
import engine
import hysparse_reference as reference

RECIPE = engine.ROOT / "models" / "retrofit"
sys.path.insert(0, str(RECIPE))
import export  # noqa: E402
import far  # noqa: E402
import llama  # noqa: E402
import split  # noqa: E402

MAX_DELTA = 2e-3
CONFIG = {"model_type": "llama", "vocab_size": 320, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 5,
          "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 16, "rope_theta": 10000.0, "rms_norm_eps": 1e-5,
          "tie_word_embeddings": True, "max_position_embeddings": 16384}
SHAPE = dict(window=16, block=8, top=4)


def make_base(folder, **changes):
    """A random llama with the byte tokenizer."""
    folder.mkdir(parents=True)
    config = {key: value for key, value in {**CONFIG, **changes}.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    reference.byte_tokenizer(folder, config["vocab_size"])
    rng, hidden, inner = np.random.default_rng(3), 48, 64
    shapes = {"input_layernorm": (hidden,), "post_attention_layernorm": (hidden,), "self_attn.q_proj": (48, hidden),
              "self_attn.k_proj": (16, hidden), "self_attn.v_proj": (16, hidden), "self_attn.o_proj": (hidden, 48),
              "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden), "mlp.down_proj": (hidden, inner)}
    tensors = {"model.embed_tokens.weight": rng.standard_normal((320, hidden)), "model.norm.weight": np.ones(hidden)}
    for layer in range(5):
        for name, shape in shapes.items():
            sharp = 2.5 if name.endswith(("q_proj", "k_proj")) else 1.0  # attention peaked enough for the oracle to matter
            weight = np.ones(shape) if len(shape) == 1 else sharp * rng.standard_normal(shape) * shape[1] ** -0.5
            tensors[f"model.layers.{layer}.{name}.weight"] = weight
    reference.write_safetensors(folder / "model.safetensors", tensors)
    return folder


def make_student(base, path, full="0,3", others=llama.SPARSE):
    """student.safetensors as train.py writes it: attention weights moved, gates and sinks of their own."""
    config = llama.base_config(base)
    student = llama.student_config(config, llama.full_layers(full, 5), others, **SHAPE)
    tensors, rng, trained = llama.base_tensors(base, config)[0], np.random.default_rng(4), {}
    for layer, kind in enumerate(student["hybrid_layer_pattern"]):
        for name in llama.PROJECTIONS:
            weight = tensors[key := f"model.layers.{layer}.self_attn.{name}.weight"]
            trained[key] = weight + 0.05 * rng.standard_normal(weight.shape).astype(np.float32)
        for branch in ["", "sparse_"][: kind]:
            trained[f"model.layers.{layer}.self_attn.{branch}gate_proj.weight"] = 0.1 * rng.standard_normal((3, 48))
            trained[f"model.layers.{layer}.self_attn.{branch}attention_sink_bias"] = rng.standard_normal(3)
    entries = [(name, "F32", array.shape, lambda array=array: array) for name, array in trained.items()]
    llama.write_safetensors(path, entries, {"config": json.dumps(student)})
    return trained


def call(script, *arguments):
    return subprocess.run([sys.executable, RECIPE / script, *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture
def base(tmp_path):
    return make_base(tmp_path / "base")


@pytest.fixture
def deltas(base, tmp_path):
    make_student(base, tmp_path / "student.safetensors")
    export.deltas(base, tmp_path / "student.safetensors", tmp_path / "deltas.safetensors")
    return tmp_path / "deltas.safetensors"


@pytest.mark.parametrize("change, message", [
    ({"model_type": "qwen2"}, "model_type is 'qwen2'"),
    ({"attention_bias": True}, "attention_bias True is not supported"),
    ({"rope_scaling": {"rope_type": "yarn"}}, "rope_scaling 'yarn'"),
    ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
    ({"num_hidden_layers": None}, "num_hidden_layers is None"),
    ({"num_hidden_layers": 6}, "model.layers.5"),
    ({"num_key_value_heads": 3}, "has shape [16, 48], not [48, 48]"),
    ({"vocab_size": 100000}, "over 65536"),
])
def test_bases_that_do_not_fit_are_refused(tmp_path, change, message):
    base = make_base(tmp_path / "base", **{"vocab_size": 320, **change})
    done = call("export.py", "deltas", base, "nothing", tmp_path / "out")
    assert done.returncode == 1 and message in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("text, message", [
    ("3,4", "lacks layer 0"), ("0,5", "layer 5 is out of range"), ("0,-1", "layer -1 is out of range"), ("0,x", "not a list"),
    ("0,3,3", "twice"), ("0,1,2,3,4", "no layer to retrofit"),
])
def test_full_layers_that_do_not_fit_are_refused(text, message):
    with pytest.raises(llama.Refused, match=message):
        llama.full_layers(text, 5)


def test_differences_are_within_half_a_step(base, deltas, tmp_path):
    trained, changes = make_student(base, tmp_path / "s"), llama.Tensors([deltas])
    tensors = llama.Tensors(llama.base_files(base))
    for name, weight in trained.items():
        if name in tensors:
            restored = tensors[name] + changes[name] * changes[name + export.SCALE][:, None]
            assert (np.abs(restored - weight) <= 0.501 * changes[name + export.SCALE][:, None]).all()
    assert not any("mlp" in name or "norm" in name for name in changes.names())


@pytest.mark.parametrize("others", [llama.SPARSE, llama.SWA])
def test_the_engine_computes_a_merged_student_as_the_reference_does(base, others, tmp_path):
    make_student(base, tmp_path / "s", others=others)
    export.deltas(base, tmp_path / "s", tmp_path / "d")
    export.merge(base, tmp_path / "d", tmp_path / "merged")
    tokens = checkpoints.prompt(300, 5)
    result = engine.run([dict(folder=tmp_path / "merged", tokens=tokens, chunk=64)], tmp_path)[0]
    choices = reference.Choices({int(layer): ids for layer, ids in result.choices["blocks"].items()})
    expected = reference.log_softmax(reference.forward(*reference.load(tmp_path / "merged"), tokens, choices))
    assert np.abs(result.logprobs - expected).max() <= MAX_DELTA
    assert choices.slack["blocks"] <= 1e-4


def test_a_merge_checks_its_hashes(base, deltas, tmp_path):
    export.merge(base, deltas, tmp_path / "merged")
    done = call("export.py", "merge", base, deltas, tmp_path / "merged")
    assert done.returncode == 1 and "exists" in done.stderr

    raw = bytearray(deltas.read_bytes())
    raw[-100] ^= 1
    (tmp_path / "damaged").write_bytes(raw)
    done = call("export.py", "merge", base, tmp_path / "damaged", tmp_path / "m2")
    assert done.returncode == 1 and "is damaged" in done.stderr and len(done.stderr.splitlines()) == 1

    weights = bytearray((base / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (base / "model.safetensors").write_bytes(weights)
    done = call("export.py", "merge", base, deltas, tmp_path / "m3")
    assert done.returncode == 1 and "is not the base" in done.stderr and len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("*m2*")) and not list(tmp_path.glob("*m3*"))


def test_an_interrupted_merge_leaves_nothing(base, deltas, tmp_path, monkeypatch):
    def interrupted(path, *_):
        pathlib.Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(llama, "write_safetensors", interrupted)
        with pytest.raises(KeyboardInterrupt):
            export.merge(base, deltas, tmp_path / "merged")
    assert not list(tmp_path.glob("*merged*"))
    (tmp_path / ".merged.partial-1").mkdir()  # of a run that was killed
    export.merge(base, deltas, tmp_path / "merged")
    assert [path.name for path in tmp_path.glob("*merged*")] == ["merged"]


def test_pieces_join_to_the_same_file(tmp_path):
    content = np.random.default_rng(1).bytes(2_500_000)
    (tmp_path / "wheel").write_bytes(content)
    assert call("split.py", "split", tmp_path / "wheel", tmp_path / "pieces", "--megabytes", 1).returncode == 0
    assert call("split.py", "join", tmp_path / "pieces" / "wheel.json", tmp_path / "back").returncode == 0
    assert (tmp_path / "back").read_bytes() == content
    (tmp_path / "pieces" / "wheel.001").write_bytes(b"x")
    done = call("split.py", "join", tmp_path / "pieces" / "wheel.json", tmp_path / "again")
    assert done.returncode == 1 and "wheel.001 does not match" in done.stderr and len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("*again*"))


def english(rng, characters):
    """Lines of text that passes for English."""
    words = "the of and to in is that for it as with be on are this by from not can window oracle block paper stone".split()
    lines = (" ".join(rng.choice(words, 12)) + f" {rng.integers(1 << 40):x}." for _ in range(characters // 60))
    return "\n".join(lines)


def make_debs(folder, rng):
    """Three packages: two to train on, one held out. Their documents are long enough for windows."""
    for package in ("alpha-doc", "beta-doc", "gamma-doc"):
        root = folder / "root" / package
        documents = root / "usr" / "share" / "doc" / package
        documents.mkdir(parents=True)
        for i in range(70 if package != "gamma-doc" else 4):
            text = english(rng, 12000 if i < 40 else 3000)
            html = "<html><head><title>no</title></head><body><p>" + text.replace("\n", "</p><p>") + "</p></body></html>"
            (documents / f"page{i}.{'html' if i % 2 else 'txt'}").write_text(html if i % 2 else text)
        (documents / "changelog.txt").write_text(english(rng, 3000))
        (root / "DEBIAN").mkdir()
        control = f"Package: {package}\nVersion: 1:2\nArchitecture: all\nMaintainer: n\nDescription: n\n"
        (root / "DEBIAN" / "control").write_text(control)
        subprocess.run(["dpkg-deb", "--build", root, folder / f"{package}_1%3a2_all.deb"], check=True, capture_output=True)
    (folder / "packages.json").write_text(json.dumps({"held_out": ["gamma-doc"], "train": ["alpha-doc", "beta-doc"]}))


def make_data(base, folder, tokens):
    """What prepare.py makes of make_debs."""
    folder.mkdir()
    make_debs(folder, np.random.default_rng(8))
    turn = {"prompt": "Is it?", "answer": english(np.random.default_rng(9), 2000)}
    (folder / "written.jsonl").write_text(json.dumps(turn) + "\n")
    done = call("prepare.py", base, folder, folder / "data", "--packages", folder / "packages.json", "--tokens", tokens,
                "--separator", "<|bos|>", "--written", folder / "written.jsonl")
    assert done.returncode == 0, done.stderr
    return folder / "data"


def test_data_is_divided_and_complete(base, tmp_path):
    data = make_data(base, tmp_path / "debs", 4_000_000)
    meta = json.loads((data / "meta.json").read_text())
    rows = np.concatenate([np.frombuffer(lzma.decompress((data / name).read_bytes()), np.uint16) for name in meta["shards"]])
    held = np.load(data / "heldout.npz")
    assert rows.size == meta["rows"] * meta["length"] and meta["versions"]["alpha-doc"] == "1:2"
    assert {entry["package"] for entry in meta["held_out"]} == {"seen", "unseen"}
    assert len(held["text"]) == len(meta["held_out"]) and set(meta["tokens"]) == {"alpha-doc", "beta-doc", "(written)"}
    letters = {byte: letter for letter, byte in json.loads((base / "tokenizer.json").read_text())["model"]["vocab"].items()}
    spoken = lambda ids: "".join(letters.get(int(i), "") for i in ids)  # noqa: E731
    everything = spoken(rows)
    for window in held["text"]:
        middle = spoken(window[4000:4060])
        assert middle and middle not in everything
    assert "<html" not in everything and "</p>" not in everything


@pytest.mark.parametrize("kind", far.KINDS)
def test_answers_stand_far_back(kind, base):
    import tokenizers
    tokenizer = tokenizers.Tokenizer.from_file(str(base / "tokenizer.json"))
    rng = np.random.default_rng(2)
    source = far.Source([rng.integers(0, 256, 4000).tolist() for _ in range(8)], lambda text: tokenizer.encode(text).ids)
    ids, answer = far.make(kind, source, rng, 4096, 256)
    assert ids.shape == answer.shape == (4096,) and ids[0] == 256 and answer.any()
    starts = np.flatnonzero(np.diff(answer.astype(int)) == 1) + 1
    for start in starts:
        end = start + int(np.argmin(np.append(answer[start:], False)))
        wanted, before = ids[start:end].tobytes(), ids[: start - 128].tobytes()
        assert wanted in before


def test_packages_and_separators_that_do_not_fit_are_named(base, tmp_path):
    done = call("prepare.py", base, tmp_path, tmp_path / "data", "--separator", "<|bos|>")
    assert done.returncode == 1 and "apt-get download" in done.stderr and len(done.stderr.splitlines()) == 1
    listing = tmp_path / "packages.json"
    listing.write_text('{"train": ["a"], "held_out": []}')
    (tmp_path / "a_1_all.deb").write_bytes(b"no package")
    done = call("prepare.py", base, tmp_path, tmp_path / "data", "--separator", "<|bos|>", "--packages", listing)
    assert done.returncode == 1 and "a_1_all.deb is no whole" in done.stderr and len(done.stderr.splitlines()) == 1
    done = call("prepare.py", base, tmp_path, tmp_path / "data", "--separator", "<|nothing|>")
    assert done.returncode == 1 and "--separator" in done.stderr and not (tmp_path / "data").exists()
