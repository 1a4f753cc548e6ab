"""SmolLM2-135M-Instruct as prepared by models/get.sh: fp32 against llama.cpp, bf16 against fp32."""

import json
import pathlib

import numpy as np
import pytest

import engine

HERE = pathlib.Path(__file__).parent
LLAMA_CPP_MEAN_DELTA = 0.01
BF16_MEAN_DELTA = 0.03


@pytest.fixture(scope="module")
def folder():
    return engine.prepared("smollm2-135m")


def test_logprobs_are_llama_cpps(folder, tmp_path):
    prompts = json.loads((HERE / "smollm2_llamacpp.json").read_text())
    results = engine.run([dict(folder=folder, tokens=prompt["tokens"], observed=True) for prompt in prompts], tmp_path)
    deltas = [np.abs(result.logprobs - np.array(prompt["logprobs"])) for result, prompt in zip(results, prompts)]
    assert len(deltas) == 20
    assert np.concatenate(deltas).mean() <= LLAMA_CPP_MEAN_DELTA


def test_bf16_is_near_fp32(folder, tmp_path):
    texts = json.loads((HERE / "smollm2_texts.json").read_text())
    assert [len(tokens) for tokens in texts] == [512] * 20
    exact, narrow = (
        engine.run([dict(folder=folder, tokens=tokens, observed=True, dtype=dtype) for tokens in texts], tmp_path / dtype)
        for dtype in ("float32", "bfloat16")
    )
    deltas = [np.abs(a.logprobs - b.logprobs) for a, b in zip(exact, narrow)]
    assert np.concatenate(deltas).mean() <= BF16_MEAN_DELTA
