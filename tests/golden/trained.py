"""The models of this repository's own training that have a golden of PyTorch's, and what is asked of them. Needs NumPy only.

A golden NAME.json (- as _) is {"model_sha256", "inputs": [{"tokens"; "logprobs": of every token given those before it, "slack": how
near a choice of blocks came to another one}]}; make_trained.py makes it. The tokens are in it because the prose between facts is
the installed Python's.
"""

import functools
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parents[1] / "models" / "mini"))
import heldout  # noqa: E402


def sequence(length, number):
    """Of the tasks that hysparse-mini was trained for."""
    return heldout.sequence(length, number).tokens.tolist()


@functools.cache
def _texts():
    return json.loads((HERE / "smollm2_texts.json").read_text())


def text(length, number):
    """What SmolLM2 wrote (smollm2_texts.json), the beginning again after 1,024 tokens: window and sinks cannot recall it."""
    first, second = _texts()[2 * number : 2 * number + 2]
    return (first + second + first)[:length]


# name: (the inputs, their lengths). The longest are longer than the 16 blocks of 64 that a sparse layer reads.
MODELS = {
    "hysparse-mini": (sequence, (700, 1500, 2500, 4096)),  # the longest that was trained, and no multiples of the block
    "smollm2-135m-hysparse": (text, (1100,)),
    "smollm2-135m-swa": (text, (1100,)),
}


def path(name):
    return HERE / (name.replace("-", "_") + ".json")
