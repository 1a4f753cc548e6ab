"""hysparse-mini as prepared by models/get.sh: FP32 log-probabilities against PyTorch's, whole and in chunks."""

import hashlib
import json
import pathlib
import sys

import numpy as np
import pytest

import engine

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE.parents[1] / "models" / "mini"))
import heldout  # noqa: E402

MAX_DELTA = 2e-3


@pytest.fixture(scope="module")
def folder():
    return engine.prepared("hysparse-mini")


@pytest.mark.parametrize("chunk", [512, 61])
def test_logprobs_are_pytorchs(folder, chunk, tmp_path):
    golden = json.loads((HERE / "hysparse_mini.json").read_text())
    with open(folder / "model.safetensors", "rb") as weights:
        made_of = hashlib.file_digest(weights, "sha256").hexdigest()
    assert made_of == golden["model_sha256"], "the golden is of other weights: make it again"
    inputs = [heldout.sequence(entry["length"], entry["number"]).tokens.tolist() for entry in golden["inputs"]]
    results = engine.run([dict(folder=folder, tokens=tokens, observed=True, chunk=chunk) for tokens in inputs], tmp_path)
    for tokens, result, entry in zip(inputs, results, golden["inputs"]):
        assert len(result.logprobs) == len(entry["logprobs"]) == len(tokens) - 1 > 600
        assert np.abs(result.logprobs - np.array(entry["logprobs"])).max() <= MAX_DELTA, f"{len(tokens)} tokens"
