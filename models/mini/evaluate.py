#!/usr/bin/env python3
"""Measures trained architectures on held-out sequences: evaluate.py ARCHITECTURE WEIGHTS.pt OUT.json [--lengths 1024,2048]

Weights are BF16, as they are shipped, and computed with in FP32. Per length: the accuracy of each task (a copy
counts when all of its words are right, a loop by its letters) with a 95 % interval over sequences, the NLL of held-out prose,
and the oracle's coverage: the share of a sparse layer's far attention that falls into the chosen blocks, were it free to
attend to all of the oracle's keys, at the tokens that answer.
"""

import argparse
import json
import pathlib

import numpy as np
import torch

import attention
import heldout
import model
import tasks

_WATCHED = 10  # sequences whose coverage is measured


class Watched(attention.Dense):
    """Dense that notes, while `watching`, the coverage of every call of `far`: [B,S] each."""

    watching = True

    def __init__(self, *shape):
        super().__init__(*shape)
        self.coverage = []

    def far(self, q, k, v, selection):
        out, lse = super().far(q, k, v, selection)
        if self.watching:
            self.coverage.append((lse - self.full(q, k, v)[1]).exp().mean(1))
        return out, lse


@torch.no_grad()
def measure(net, length, count, mix, device):
    scores, prose, coverage = {task: [] for task in tasks.scored(mix)}, [], []
    for number, sequence in enumerate(heldout.sequences(length, count, mix=mix)):
        net.ops.coverage, net.ops.watching = [], number < _WATCHED
        tokens = torch.from_numpy(sequence.tokens.astype(np.int64))[None].to(device)
        logprob = net.logits(net(tokens)[0, :-1]).log_softmax(-1)
        right = (logprob.argmax(-1) == tokens[0, 1:]).cpu().numpy()
        nll = -logprob.gather(1, tokens[0, 1:, None])[:, 0].cpu().numpy()
        prose.append(nll[sequence.task[1:] == 0].mean())
        counted = heldout.answers(sequence, np.append(False, right))
        for task, values in scores.items():
            values.append(counted[task])
        answers = torch.from_numpy(np.flatnonzero(sequence.task[1:] > 0)).to(device)
        if net.ops.watching:
            coverage.append([layer[0, answers].mean().item() for layer in net.ops.coverage])
    return {"accuracy": {task: heldout.interval(values) for task, values in scores.items()},
            "prose_nll": round(float(np.mean(prose)), 4), "coverage": np.round(np.mean(coverage, 0), 4).tolist()}


def load(architecture, path, device):
    net = model.Model(model.Config(*model.ARCHITECTURES[architecture]), Watched)
    net.load_state_dict({name: weight.float() for name, weight in torch.load(path, map_location="cpu").items()})
    return net.to(device).eval()


def kv_bytes(config, context, element=2):
    """What one sequence keeps, by the spec's formula."""
    kinds = config.pattern
    shared = config.variant == "shared"
    near = sum(kind != model.FULL for kind in kinds) * (not shared)
    token = config.groups * 2 * config.head_dim * element
    return token * (kinds.count(model.FULL) * context + near * min(context, config.window))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architecture", choices=model.ARCHITECTURES)
    parser.add_argument("weights", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--mix", choices=tasks.MIXES, default="main", help="of tasks")
    parser.add_argument("--lengths", default=",".join(map(str, heldout.LENGTHS)))
    parser.add_argument("--sequences", type=int, help="per length, instead of the number that gives 400 questions a task")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = False
    net = load(arguments.architecture, arguments.weights, device)
    result = {}
    for length in map(int, arguments.lengths.split(",")):
        result[length] = measure(net, length, arguments.sequences or heldout.LENGTHS.get(length, 20), arguments.mix, device)
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
