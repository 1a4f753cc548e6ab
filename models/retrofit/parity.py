#!/usr/bin/env python3
"""Compares what the server says of held-out text with PyTorch's forward pass, both in FP32:

    parity.py MODEL DATA/heldout.npz [--inputs 20] [--longest 4096]

MODEL is a folder or the name of a prepared model, a student or a plain llama. The inputs' lengths are evenly spread up to the
longest. Two right computations may choose different blocks where scores nearly tie, so the blocks that the engine read
(tests/golden's hysparse_forward; build with -DHYSPARSE_TESTS=ON) are compared with PyTorch's own: how many rows differ, and
by how much the scores contradict the engine's choice at worst. The log-probabilities are compared twice, PyTorch following
the engine's blocks and choosing its own. Exit status 1: followed, they differ by more than LIMIT, or a choice was no tie.
"""

import argparse
import pathlib
import sys
import tempfile

import numpy as np
import torch

import llama
import served
import student
from student import attention
from table import held_out

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"))
import engine  # noqa: E402

LIMIT = 2e-3  # of a log-probability
TIE = 1e-5  # of a block's log score, of its size where that is over 1
SAME = 1e-5  # served and hysparse_forward: the same arithmetic


class Following(student.fading(attention.Dense)):
    """Reads the blocks that it is given, layer after layer, and counts where it would have chosen others; or chooses itself.

    `slack`: by what share of it, at most, the score of a block left out exceeds that of one read."""

    def follow(self, given):
        self._given, self.rows, self.other, self.slack = given and iter(given), 0, 0, -np.inf

    def scores(self, q, k, lse):
        self._scores = super().scores(q, k, lse)
        return self._scores

    def selection(self, chosen):
        read = torch.from_numpy(next(self._given))[None] if self._given else chosen
        left_out = self._scores.masked_fill(read, -np.inf).amax(-1)
        worst = self._scores.masked_fill(~read, np.inf).amin(-1)
        self.rows += read[..., 0].numel()
        self.other += int((read != chosen).any(-1).sum())
        self.slack = max(self.slack, ((left_out - worst) / worst.abs().clamp_min(1)).max().item())
        return read


def load(folder):
    config = llama.read_json(folder / "config.json")
    if config.get("model_type") == "llama":
        config = llama.base_config(folder)
        return student.teacher(config, *llama.base_tensors(folder, config), "cpu")
    net = student.Student(config, Following)
    tensors = llama.Tensors(llama.base_files(folder))
    missing = net.load(tensors, tensors.names(), folder)
    if missing:
        raise llama.Refused(f"{folder}: tensor {missing[0]} is missing")
    return net.eval()


@torch.no_grad()
def logprobs(net, ids, blocks=None):
    """[S-1] of the tokens after the first; with the engine's blocks, or the model's own."""
    if isinstance(net.ops, Following):
        net.ops.follow(blocks)
    tokens = torch.tensor([[int(i) for i in ids]])
    parts = zip(net(tokens)[0, :-1].split(1024), tokens[0, 1:].split(1024))
    return torch.cat([net.logits(part).log_softmax(-1).gather(1, target[:, None])[:, 0] for part, target in parts]).numpy()


def masks(choices, length, block):
    """Per layer that chooses, in order: bool [G,S,blocks] of the engine's ids [S][G][ids]."""
    found = []
    for layer in sorted(choices, key=int):
        mask = np.zeros((len(choices[layer][0]), length, -(-length // block)), bool)
        for at, groups in enumerate(choices[layer]):
            for group, ids in enumerate(groups):
                mask[group, at, ids] = True
        found.append(mask)
    return found


def differences(net, ids, result):
    """|Δ log-probability| at most, PyTorch following the engine's blocks and choosing its own; rows, other ones, slack."""
    if llama.SPARSE not in net.c.pattern:
        delta = np.abs(logprobs(net, ids) - result.logprobs).max()
        return delta, delta, 0, 0, -np.inf
    blocks = masks(result.choices["blocks"], len(ids), net.c.block)
    own = followed = np.abs(logprobs(net, ids, blocks) - result.logprobs).max()
    counts = net.ops.rows, net.ops.other, net.ops.slack
    if net.ops.other:
        own = np.abs(logprobs(net, ids) - result.logprobs).max()
    return followed, own, *counts


def inputs(path, count, longest):
    text = held_out(path, count)
    return [row[: longest * (i + 1) // count] for i, row in enumerate(text)]


def engine_results(folder, texts):
    """What hysparse_forward says, checked against the server."""
    with tempfile.TemporaryDirectory() as scratch:
        jobs = [dict(folder=folder, tokens=[int(i) for i in ids], observed=True, chunk=512) for ids in texts]
        results = engine.run(jobs, scratch)
    with served.Served(folder, "--dtype", "float32") as server:
        for ids, result in zip(texts, results):
            apart = np.abs(np.array(server.score(ids)[0]) - result.logprobs).max()
            if apart > SAME:
                raise llama.Refused(f"the server and hysparse_forward differ by {apart:.1e}: are both of one build?")
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("heldout", type=pathlib.Path)
    parser.add_argument("--inputs", type=int, default=20)
    parser.add_argument("--longest", type=int, default=4096, help="tokens of the longest input")
    arguments = parser.parse_args()
    with llama.one_line("parity.py"):
        folder = served.folder(arguments.model)
        texts, net, worst = inputs(arguments.heldout, arguments.inputs, arguments.longest), load(folder), []
        for ids, result in zip(texts, engine_results(folder, texts)):
            followed, own, rows, other, slack = differences(net, ids, result)
            print(f"{len(ids):5} tokens: |Δ| {followed:.1e}, with its own blocks {own:.1e}; {other} of {rows} choices differ, "
                  f"slack {slack:.1e}", flush=True)
            worst.append((followed, own, slack))
        followed, own, slack = np.max(worst, 0)
        print(f"at most: |Δ| {followed:.1e}, with its own blocks {own:.1e}, slack {slack:.1e}")
        sys.exit(bool(followed > LIMIT or slack > TIE))


if __name__ == "__main__":
    main()
