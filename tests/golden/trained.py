"""The models of this repository's own training that have a golden of PyTorch's.

A golden NAME.json (- as _) is {"model_sha256", "inputs": [{"tokens"; "logprobs": of every token given those before it,
"slack": how near a choice of blocks came to another one}]}; make_trained.py makes it. The tokens are in it because the prose
between facts is the installed Python's.
"""

import pathlib

HERE = pathlib.Path(__file__).resolve().parent

# name: lengths of the inputs. The longest are longer than the 16 blocks of 64 that a sparse layer reads.
LENGTHS = {
    "hysparse-mini": (700, 1500, 2500, 4096),  # the longest that was trained, and no multiples of the block
    "smollm2-135m-hysparse": (1100,),
    "smollm2-135m-swa": (1100,),
}


def path(name):
    return HERE / (name.replace("-", "_") + ".json")
