"""The whole retrofit recipe on a toy base: prepare, train, export, merge, evaluate, and the engine's logprobs against PyTorch's.

Not collected by itself, since the suites have no PyTorch: PYTHON -m pytest tests/golden/retrofit_toy.py, with a PYTHON that has
torch, numpy, pytest, tokenizers and jinja2.
"""

import json
import re

import numpy as np
import pytest
import torch

import checkpoints
import engine
from test_retrofit import MAX_DELTA, call, make_base, make_data  # first: it sets the path
import export
import llama
import parity
import student
from student import attention

OPTIONS = ["--full-layers", "0,3", "--window", 16, "--block", 8, "--top", 4, "--length", 128, "--batch", 4, "--lr", 5e-3]
TOKENS = 128 * 4 * 120


def said(done):
    """Lines of a program's stderr, without those of PyTorch's log (W1129 …)."""
    return [line for line in done.stderr.splitlines() if not re.match(r"[WIE]\d{4} ", line)]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("toy") / "base")


@pytest.fixture(scope="module")
def data(base, tmp_path_factory):
    return make_data(base, tmp_path_factory.mktemp("data") / "debs", 4_000_000)


def train(base, data, out, *options):
    done = call("train.py", base, data, out, *OPTIONS, "--tokens", TOKENS, *options)
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["kl"] for line in (out / "curve.jsonl").read_text().splitlines()]


def merged(base, out):
    export.deltas(base, out / "student.safetensors", out / "deltas.safetensors")
    export.merge(base, out / "deltas.safetensors", out / "merged")
    return out / "merged"


def torch_logprobs(folder, tokens):
    net = student.Student(llama.read_json(folder / "config.json"), student.fading(attention.Dense))
    tensors = llama.Tensors(llama.base_files(folder))
    assert not net.load(tensors, tensors.names(), folder)
    with torch.no_grad():
        return net.logits(net(torch.tensor([tokens]))[0]).log_softmax(-1).numpy()


@pytest.mark.parametrize("others, trained", [("sparse", "all"), ("sparse", "branch"), ("swa", "all")])
def test_the_whole_way(base, data, others, trained, tmp_path):
    curve = train(base, data, tmp_path / "run", "--others", others, "--train", trained)
    assert curve[-1] < 0.9 * curve[0]
    folder = merged(base, tmp_path / "run")
    tokens = checkpoints.prompt(400, 5)
    result = engine.run([dict(folder=folder, tokens=tokens, chunk=64)], tmp_path)[0]
    assert np.abs(result.logprobs - torch_logprobs(folder, tokens)).max() <= MAX_DELTA
    done = call("parity.py", folder, data / "heldout.npz", "--inputs", 2, "--longest", 400)
    assert done.returncode == 0 and "at most: |Δ|" in done.stdout, done.stderr


def test_parity_counts_choices_that_are_no_tie():
    """Blocks that the scores contradict are followed, counted, and show as slack."""
    ops, rng = parity.Following(16, 8, 1), torch.Generator().manual_seed(1)
    q, k, v = torch.randn(3, 1, 1, 64, 8, generator=rng)
    score = ops.scores(q, k, ops.full(q, k, v)[1])
    own = attention.best_blocks(score, 4)
    wrong = own.clone()
    wrong[0, 0, 63] = attention.best_blocks(-score[:, :, 63:], 4)  # the worst ones, at the last token
    for given, other in ((own, 0), (wrong, 1)):
        ops.follow([given[0].numpy()])
        assert ops.selection(own).equal(given)
        assert (ops.rows, ops.other, ops.slack > parity.TIE) == (64, other, other > 0)


def test_a_training_cut_in_pieces_is_the_same(base, data, tmp_path):
    whole = train(base, data, tmp_path / "whole")
    first = train(base, data, tmp_path / "pieces", "--seconds", 1)
    assert len(first) < len(whole)  # cut before its end
    assert train(base, data, tmp_path / "pieces") == whole
    other = call("train.py", base, data, tmp_path / "pieces", *OPTIONS, "--lr", 1e-3)
    assert other.returncode == 1 and "--lr" in other.stderr and len(said(other)) == 1


def test_what_is_measured(base, data, tmp_path):
    for name, options in (("student", []), ("swa", ["--others", "swa"])):
        train(base, data, tmp_path / name, *options)
        merged(base, tmp_path / name)
    held = np.load(data / "heldout.npz")
    short = {name: held[name][:, -1500:] for name in held}  # dense attention is slow on a CPU
    np.savez(tmp_path / "heldout.npz", **short)
    (tmp_path / "meta.json").write_bytes((data / "meta.json").read_bytes())
    done = call("evaluate.py", base, tmp_path, tmp_path / "out.json", tmp_path / "student/merged", "--swa", tmp_path / "swa/merged",
                "--windows", 1)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out.json").read_text())
    assert list(result) == ["base", "student", "random blocks", "sparse gate off", "hybrid SWA"]
    ratio, low, high = result["student"]["to base"]["1-8k"]["ratio"]
    assert low <= ratio <= high and result["base"]["far"]["codes"]["agreement"][0] == 1
    assert result["sparse gate off"]["to student"]["1-8k"]["ratio"] != [1, 1, 1]


@pytest.mark.parametrize("full, message", [("1,3", "lacks layer 0"), ("0,9", "out of range")])
def test_train_refuses_full_layers(base, data, full, message, tmp_path):
    done = call("train.py", base, data, tmp_path / "run", "--full-layers", full)
    assert done.returncode == 1 and message in done.stderr and len(said(done)) == 1


def test_fading_ends_at_the_oracle():
    """At share 0 the sparse branch reads its layer's own K, V, at 1 the oracle's, between them a mix."""
    ops, rng = student.fading(attention.Dense)(16, 8, 1), torch.Generator().manual_seed(1)
    q, own_k, own_v, k, v = torch.randn(5, 1, 2, 64, 8, generator=rng)
    chosen = torch.ones(1, 2, 64, 8, dtype=torch.bool)
    plain = attention.Dense(16, 8, 1)
    ops.near(q, own_k, own_v)
    for share, expected in ((0.0, (own_k, own_v)), (0.25, (own_k + (k - own_k) / 4, own_v + (v - own_v) / 4)), (1.0, (k, v))):
        ops.share = share
        torch.testing.assert_close(ops.far(q, k, v, chosen), plain.far(q, *expected, chosen))
