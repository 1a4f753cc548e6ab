"""Trained models as prepared by models/get.sh: FP32 log-probabilities against PyTorch's, whole and in chunks."""

import hashlib
import json

import numpy as np
import pytest

import engine
import trained

MAX_DELTA = 2e-3


@pytest.mark.parametrize("name, chunk", [("hysparse-mini", 512), ("hysparse-mini", 61), ("smollm2-135m-hysparse", 512),
                                         ("smollm2-135m-hysparse", 61), ("smollm2-135m-swa", 61)])
def test_logprobs_are_pytorchs(name, chunk, tmp_path):
    folder, golden = engine.prepared(name), json.loads(trained.path(name).read_text())
    with open(folder / "model.safetensors", "rb") as weights:
        made_of = hashlib.file_digest(weights, "sha256").hexdigest()
    assert made_of == golden["model_sha256"], "the golden is of other weights: make it again"
    inputs = [entry["tokens"] for entry in golden["inputs"]]
    assert tuple(map(len, inputs)) == trained.LENGTHS[name]
    results = engine.run([dict(folder=folder, tokens=tokens, observed=True, chunk=chunk) for tokens in inputs], tmp_path)
    for tokens, result, entry in zip(inputs, results, golden["inputs"]):
        assert len(result.logprobs) == len(entry["logprobs"]) == len(tokens) - 1
        assert np.abs(result.logprobs - np.array(entry["logprobs"])).max() <= MAX_DELTA, f"{len(tokens)} tokens"
