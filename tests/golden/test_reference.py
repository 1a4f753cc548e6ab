"""The engine's forward pass against the NumPy reference, in fp32 and bf16, under every chunking, batch and page order.

The reference follows the engine's own block and expert choices; `slack` then says by how much its scores contradict them.
"""

import numpy as np
import pytest

import checkpoints
import engine
import hysparse_reference as reference

# Prompt lengths of the five seeds of each preset.
LENGTHS = {0: [1, 129], 1: [63, 300], 2: [2, 65], 3: [700], 4: [17, 128]}
EDGES = [63, 64, 65, 127, 128, 129]
MAX_DELTA = 2e-3
MAX_SLACK = {"blocks": 1e-4, "experts": 1e-5}
BF16_MEAN_DELTA = 0.1


def follow(folder, tokens, result):
    """(the reference's logprobs with the engine's choices, slack)."""
    spec, weights = reference.load(folder)
    given = [{int(layer): ids for layer, ids in result.choices[kind].items()} for kind in ("blocks", "experts")]
    choices = reference.Choices(*given)
    return reference.log_softmax(reference.forward(spec, weights, tokens, choices)), choices.slack


def check(folder, tokens, result):
    expected, slack = follow(folder, tokens, result)
    worst = np.abs(result.logprobs - expected).max()
    assert worst <= MAX_DELTA, f"{len(tokens)} tokens: max |delta logprob| {worst:.2e}"
    for kind, limit in MAX_SLACK.items():
        assert slack[kind] <= limit, f"{len(tokens)} tokens: slack of {kind} {slack[kind]:.2e}"


@pytest.mark.parametrize("seed", LENGTHS)
@pytest.mark.parametrize("preset", checkpoints.PRESETS)
def test_presets(preset, seed, tmp_path):
    folder = checkpoints.make(tmp_path / "model", preset, seed)
    prompts = [checkpoints.prompt(length, seed) for length in LENGTHS[seed]]
    results = engine.run([dict(folder=folder, tokens=tokens, chunk=64) for tokens in prompts], tmp_path)
    for tokens, result in zip(prompts, results):
        check(folder, tokens, result)


@pytest.mark.parametrize("name", checkpoints.HAND_MADE)
def test_hand_made(name, tmp_path):
    folder = checkpoints.make(tmp_path / "model", name, seed=1)
    prompts = [checkpoints.prompt(length, 1) for length in EDGES]
    results = engine.run([dict(folder=folder, tokens=tokens) for tokens in prompts], tmp_path)
    for tokens, result in zip(prompts, results):
        check(folder, tokens, result)


def variations(folder, tokens, dtype):
    """The same sequence computed in every way that must not matter."""
    others = [
        dict(tokens=checkpoints.prompt(90, 11), chunk=3),
        dict(tokens=checkpoints.prompt(333, 12), chunk=50),
        dict(tokens=checkpoints.prompt(5, 13), chunk=1),
    ]
    base = dict(folder=folder, tokens=tokens, dtype=dtype)
    alone = [dict(base, chunk=chunk) for chunk in (0, 1, 7, 64, 200)]
    return alone + [dict(base, chunk=chunk, others=others, shuffle=chunk + 1) for chunk in (0, 7, 200)]


@pytest.mark.parametrize("isa", engine.cpu_isas())
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["tiny-hysparse-moe", "tiny-swa", "all-kinds", "biases-and-experts"])
def test_bits_depend_on_nothing_else(name, dtype, isa, tmp_path):
    folder = checkpoints.make(tmp_path / "model", name, seed=2)
    first, *rest = engine.run(variations(folder, checkpoints.prompt(261, 2), dtype), tmp_path, isa)
    for result in rest:
        assert result.logprobs.tobytes() == first.logprobs.tobytes()
        assert result.choices == first.choices


@pytest.mark.parametrize("isa", engine.cpu_isas()[1:])
@pytest.mark.parametrize("name", ["tiny-hysparse-moe", "all-kinds"])
def test_every_instruction_set(name, isa, tmp_path):
    folder = checkpoints.make(tmp_path / "model", name, seed=3)
    tokens = checkpoints.prompt(150, 3)
    check(folder, tokens, engine.run([dict(folder=folder, tokens=tokens, chunk=64)], tmp_path, isa)[0])


@pytest.mark.parametrize("preset", checkpoints.PRESETS)
def test_bf16(preset, tmp_path):
    folder = checkpoints.make(tmp_path / "model", preset, seed=4)
    tokens = checkpoints.prompt(300, 4)
    result = engine.run([dict(folder=folder, tokens=tokens, dtype="bfloat16", chunk=64)], tmp_path)[0]
    expected, _ = follow(folder, tokens, result)
    mean = np.abs(result.logprobs - expected).mean()
    assert mean <= BF16_MEAN_DELTA, f"mean |delta logprob| {mean:.3f}"
