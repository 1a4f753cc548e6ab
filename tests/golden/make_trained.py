#!/usr/bin/env python3
"""Makes the goldens of trained models with PyTorch in FP32 (models/mini/model.py), from the prepared models:

    make_trained.py [NAME ...]          of trained.py's models; default: all of them

A choice of blocks that nearly ties may fall either way under another rounding, and then the log-probabilities differ for good:
of some inputs of a length, the one whose closest call is clearest is taken. trained.py describes the files.

Needs torch and numpy.
"""
import json
import pathlib
import sys

import numpy as np

import trained

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "models" / "retrofit"))
import llama  # noqa: E402
import parity  # noqa: E402
import served  # noqa: E402

TRIED = 3


def measured(net, make, length, number):
    logprobs = [round(float(value), 5) for value in parity.logprobs(net, make(length, number))]
    return {"length": length, "number": number, "slack": net.ops.slack, "logprobs": logprobs}


def golden(name):
    folder, (make, lengths) = served.folder(name), trained.MODELS[name]
    net = parity.load(folder)
    inputs = [min((measured(net, make, length, number) for number in range(TRIED)), key=lambda entry: entry["slack"])
              for length in lengths]
    for entry in inputs:
        entry["slack"] = round(entry["slack"], 9) if entry["slack"] > -np.inf else None  # none: every block is read
    return {"model_sha256": llama.sha256(folder / "model.safetensors"), "inputs": inputs}


def main():
    for name in sys.argv[1:] or trained.MODELS:
        trained.path(name).write_text(json.dumps(golden(name), separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
