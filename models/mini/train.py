#!/usr/bin/env python3
"""Trains one architecture of the study: train.py ARCHITECTURE DATA OUT.pt, DATA as written by prepare.py.

Writes OUT.pt (weights, rounded to BF16) and OUT.jsonl (the curve: loss, and accuracy of each task on the batch before it is
learnt).
"""

import argparse
import json
import pathlib
import sys
import time

import numpy as np
import torch
import torch._dynamo
import torch.nn.functional as F
from torch import nn

import attention
import model
import optimizer
import prepare
import tasks

LEARNING_RATE = 4e-3
WEIGHT_DECAY = 0.5  # of a loud model's matrices: its logits stay calm
WARM_UP, DECAY = 0.02, 0.5  # shares of the training
LOG_EVERY = 25
HOP_LAYERS, BEFORE_LAYER, BEFORE, BEFORE_STRIDE = (4, 6, 8), 2, 2, 3
LESSON_WEIGHT = 0.3
CAPTURE_AFTER = 3  # steps of a shape: everything is compiled by then


def load(folder):
    """[(window, block, sequences a step, [tokens, task, weight, asked, path])] of every stage."""
    path = folder / prepare.LISTING
    if not path.exists():
        sys.exit(f"train.py: {path} is missing: run prepare.py {folder}")
    return [(window, block, batch, [np.load(folder / f"{length}.{part}.npy", mmap_mode="r") for part in prepare.PARTS])
            for length, batch, window, block in json.loads(path.read_text())]


def rate(done):
    """Of the peak, at a share of the training: warm up, stay, fall to zero in a straight line."""
    return min(1.0, done / WARM_UP, max(0.0, 1 - done) / DECAY)


class Taught(nn.Module):
    """A model and what only its training needs: lessons for layers in between, so that a look-up is learnt step by step. The
    layer before the second full one is taught the BEFORE tokens before each token (a fact is known by two), later ones the
    hops of a chain."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.before = nn.ModuleList(nn.Linear(net.c.hidden, net.c.hidden, bias=False) for _ in range(BEFORE))

    def _tokens_before(self, h, tokens):
        """A look back is as good at one place as at another: every third is asked."""
        rows, total = slice(BEFORE, None, BEFORE_STRIDE), 0
        for back, read in enumerate(self.before, 1):
            target = tokens[:, BEFORE - back : tokens.shape[1] - back : BEFORE_STRIDE]
            logits = self.net.logits(read(self.net.model.norm(h[:, rows]))).float()
            total = total + F.cross_entropy(logits.flatten(0, 1), target.flatten())
        return total

    def _hop(self, h, asked, target):
        h = self.net.model.norm(h.gather(1, asked[..., None].expand(-1, -1, h.shape[2])))
        loss = F.cross_entropy(self.net.logits(h).float().flatten(0, 1), target.flatten(), reduction="none").view_as(asked)
        there = (asked > 0).float()
        return (loss * there).sum() / there.sum().clamp_min(1)

    def forward(self, tokens, weight, asked, path):
        """(weighted mean loss, right answers [B,S-1])."""
        tap = dict.fromkeys((BEFORE_LAYER, *HOP_LAYERS))
        logits, target = self.net.logits(self.net(tokens, tap)[:, :-1]).float(), tokens[:, 1:]
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view_as(target)
        weight = weight[:, 1:].float()
        lessons = self._tokens_before(tap[BEFORE_LAYER], tokens)
        for hop, layer in enumerate(HOP_LAYERS):
            lessons = lessons + self._hop(tap[layer], asked, path[..., hop])
        return (loss * weight).sum() / weight.sum() + LESSON_WEIGHT * lessons, logits.argmax(-1) == target


def accuracy(right, task):
    task = task[:, 1:]
    return {name: round(right[task == i].float().mean().item(), 4) for i, name in enumerate(tasks.TASKS) if (task == i).any()}


class Learner:
    """One step of training on batches of one shape; on a GPU it is captured once and replayed, for launching it takes longer
    than computing it."""

    def __init__(self, taught, optimizers, device):
        self._taught, self._optimizers, self._device, self._calls, self._graph = taught, optimizers, device, 0, None
        self._inputs = None
        self._stream = torch.cuda.Stream() if device.type == "cuda" else None

    def _learn(self):
        self._taught.zero_grad(set_to_none=True)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._stream is not None, cache_enabled=False):
            loss, right = self._taught(*self._inputs)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._taught.parameters(), 1.0)
        for each in self._optimizers:
            each.step()
        return loss.detach(), right

    def __call__(self, tokens, weight, asked, path):
        """(loss, right answers) before the step; valid until the next one."""
        given = tokens.long(), weight, asked.long(), path.long()
        self._inputs = self._inputs or [each.to(self._device) for each in given]
        for own, each in zip(self._inputs, given):
            own.copy_(each)
        self._calls += 1
        if self._stream is None:
            return self._learn()
        if self._calls <= CAPTURE_AFTER:
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                result = self._learn()
            torch.cuda.current_stream().wait_stream(self._stream)
            return result
        if self._graph is None:
            self._taught.zero_grad(set_to_none=True)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._result = self._learn()
        self._graph.replay()
        return self._result


def train(net, stages, device, seconds, log):
    """One pass over the stages, or as much of it as `seconds` allow: the learning rate reaches zero either way."""
    lr = torch.tensor(LEARNING_RATE, device=device)
    taught = Taught(net).to(device)
    optimizers = optimizer.make(taught, lr, WEIGHT_DECAY if net.c.loud else 0.0)
    steps, started, step = sum(-(-len(parts[0]) // batch) for _, _, batch, parts in stages), time.time(), 0
    for window, block, batch, parts in stages:
        net.ops.window, net.ops.block = window, block
        learner = Learner(taught, optimizers, device)
        for first in range(0, len(parts[0]), batch):
            tokens, task, weight, *lessons = (torch.from_numpy(part[first : first + batch].copy()) for part in parts)
            done = max((step + 1) / (steps + 1), (time.time() - started) / seconds)
            if done >= 1:
                return
            lr.fill_(LEARNING_RATE * rate(done))
            loss, right = learner(tokens, weight, *lessons)
            if step % LOG_EVERY == 0:
                row = {"step": step, "length": tokens.shape[1], "seconds": round(time.time() - started, 1),
                       "loss": round(loss.item(), 4), **accuracy(right, task.to(device))}
                log.write(json.dumps(row) + "\n")
                log.flush()
            step += 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architecture", choices=model.ARCHITECTURES)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=0, help="of the first weights")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end by then, with the steps done so far")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    stages = load(arguments.data)
    config = model.Config(*model.ARCHITECTURES[arguments.architecture])
    net = model.Model(config, attention.Fused if device.type == "cuda" else attention.Dense).to(device)
    if device.type == "cuda":
        torch._dynamo.config.recompile_limit = 64
        for part in ("project", "finish"):
            setattr(model.Layer, part, torch.compile(getattr(model.Layer, part), dynamic=False))
    with open(arguments.out.with_suffix(".jsonl"), "w") as log:
        train(net, stages, device, arguments.seconds, log)
    torch.save({name: weight.bfloat16() for name, weight in net.state_dict().items()}, arguments.out)


if __name__ == "__main__":
    main()
