#!/usr/bin/env python3
"""Makes the goldens of trained models with PyTorch in FP32 (models/mini/model.py), from the prepared models:

    make_trained.py [NAME ...]          of trained.py's models; default: all of them

A choice of blocks that nearly ties may fall either way under another rounding, and where attention is sharp (hysparse-mini's
look-ups) rounding is amplified. Of some inputs of a length whose choices are clear, the one that bears noise best is
taken. trained.py describes the files.

Needs torch and numpy.
"""
import functools
import json
import pathlib
import sys

import numpy as np
import torch

import trained

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "models" / "retrofit"))
import llama  # noqa: E402
import parity  # noqa: E402: finds models/mini too
import heldout  # noqa: E402
import served  # noqa: E402

TRIED = 3
CLEAR = -5e-7  # of a slack
NOISE = 1e-7  # relative, on the embedding: about FP32's own rounding


def sequence(length, number):
    """Of the tasks that hysparse-mini was trained for."""
    return heldout.sequence(length, number).tokens.tolist()


@functools.cache
def _texts():
    return json.loads((trained.HERE / "smollm2_texts.json").read_text())


def text(length, number):
    """What SmolLM2 wrote (smollm2_texts.json), the beginning again after 1,024 tokens: window and sinks cannot recall it."""
    first, second = _texts()[2 * number : 2 * number + 2]
    return (first + second + first)[:length]


INPUTS = {"hysparse-mini": sequence, "smollm2-135m-hysparse": text, "smollm2-135m-swa": text}


@torch.no_grad()
def noise(net, ids, logprobs):
    """How much a log-probability changes at most with the embedding's last bits."""
    weight, generator = net.model.embed_tokens.weight, torch.Generator().manual_seed(0)
    kept = weight.clone()
    weight.mul_(1 + NOISE * torch.randn(weight.shape, generator=generator))
    other = parity.logprobs(net, ids)
    weight.copy_(kept)
    return float(np.abs(other - logprobs).max())


def measured(net, make, length, number):
    """(what it says against taking this input, its entry)"""
    ids = make(length, number)
    logprobs = parity.logprobs(net, ids)
    slack = net.ops.slack
    entry = {"tokens": ids, "slack": slack, "logprobs": [round(float(value), 5) for value in logprobs]}
    return (slack > CLEAR, noise(net, ids, logprobs)), entry


def golden(name):
    folder = served.folder(name)
    net = parity.load(folder)
    inputs = [min((measured(net, INPUTS[name], length, number) for number in range(TRIED)), key=lambda found: found[0])[1]
              for length in trained.LENGTHS[name]]
    for entry in inputs:
        entry["slack"] = round(entry["slack"], 9) if entry["slack"] > -np.inf else None  # none: every block is read
    return {"model_sha256": llama.sha256(folder / "model.safetensors"), "inputs": inputs}


def main():
    for name in sys.argv[1:] or INPUTS:
        trained.path(name).write_text(json.dumps(golden(name), separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
