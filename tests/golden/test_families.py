"""Every model family against what transformers computed (make_families.py), in fp32, with config.json in both layouts."""

import pathlib
import shutil

import numpy as np
import pytest

import engine

FAMILIES = pathlib.Path(__file__).parent / "families"
MAX_DELTA = 1e-3
CASES = [(folder.name, config.name) for folder in sorted(FAMILIES.iterdir()) for config in sorted(folder.glob("config*.json"))]


@pytest.mark.parametrize("name,config", CASES)
def test_family(name, config, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(FAMILIES / name, folder)
    shutil.copy(FAMILIES / name / config, folder / "config.json")
    expected = np.load(folder / "expected.npz")
    tokens = expected["tokens"].tolist()
    for result in engine.run([dict(folder=folder, tokens=tokens, chunk=chunk) for chunk in (0, 5)], tmp_path):
        worst = np.abs(result.logprobs - expected["logprobs"]).max()
        assert worst <= MAX_DELTA, f"max |delta logprob| {worst:.2e}"


def test_all_families_are_there():
    families = {name.split("-")[0] for name, _ in CASES} | {"qwen3_moe" for name, _ in CASES if name.startswith("qwen3-moe")}
    assert families == {"llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "mimo"}
    assert len(CASES) == 20
