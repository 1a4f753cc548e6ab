#!/usr/bin/env python3
"""Makes the golden of hysparse-mini with PyTorch in FP32 (models/mini/model.py), from the prepared model: make_hysparse_mini.py

hysparse_mini.json   {"model_sha256", "inputs": [{"length", "number": of a sequence of models/mini/heldout.py; "logprobs": of every
                     token given those before it, "slack": how near a choice of blocks came to another one}]}

A choice that nearly ties may fall either way under another rounding, and then the log-probabilities differ for good: of some
sequences of a length, the one whose closest call is clearest is taken.

Needs torch and numpy.
"""
import json
import pathlib
import sys

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "models" / "retrofit"))
import llama  # noqa: E402
import parity  # noqa: E402
import served  # noqa: E402
import heldout  # noqa: E402

LENGTHS = (700, 1500, 2500, 4096)  # the longest that was trained, and some that are no multiples of the block
TRIED = 3


def measured(net, length, number):
    tokens = heldout.sequence(length, number).tokens
    logprobs = [round(float(value), 5) for value in parity.logprobs(net, tokens)]
    return {"length": length, "number": number, "slack": net.ops.slack, "logprobs": logprobs}


def main():
    folder = served.folder("hysparse-mini")
    net = parity.load(folder)
    inputs = [min((measured(net, length, number) for number in range(TRIED)), key=lambda entry: entry["slack"])
              for length in LENGTHS]
    for entry in inputs:
        entry["slack"] = round(entry["slack"], 9) if entry["slack"] > -np.inf else None  # none: every block is read
    golden = {"model_sha256": llama.sha256(folder / "model.safetensors"), "inputs": inputs}
    (HERE / "hysparse_mini.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
