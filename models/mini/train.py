#!/usr/bin/env python3
"""Trains one architecture of the study: train.py ARCHITECTURE DATA OUT.pt, DATA as written by prepare.py.

Writes OUT.pt (weights, rounded to BF16) and OUT.jsonl (the curve: loss and accuracy of each task on the batch before it is learnt).
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

import attention
import model
import optimizer
import prepare
import tasks

LEARNING_RATE = 4e-3
WARM_UP, DECAY = 0.02, 0.3  # shares of the training
LOG_EVERY = 25


def load(folder):
    """[(window, sequences a step, [tokens, task, weight])] of every stage."""
    path = folder / prepare.STAGES
    if not path.exists():
        sys.exit(f"train.py: {path} is missing: run prepare.py {folder}")
    return [(window, batch, [np.load(folder / f"{length}.{part}.npy", mmap_mode="r") for part in prepare.PARTS])
            for length, batch, window in json.loads(path.read_text())]


def start_from(net, path):
    """Takes the weights of an earlier training of the same architecture; what does not fit ends in one line."""
    try:
        net.load_state_dict({name: weight.float() for name, weight in torch.load(path, map_location="cpu").items()})
    except (OSError, RuntimeError, AttributeError) as error:
        sys.exit(f"train.py: {path} does not fit: {' '.join(str(error).split())[:200]}")


def batches(stages, device):
    """(window, (tokens, task, weight)) of every step, stage after stage."""
    for window, batch, parts in stages:
        for first in range(0, len(parts[0]), batch):
            yield window, [torch.from_numpy(part[first : first + batch].copy()).to(device) for part in parts]


def rate(done):
    """Of the peak, at a share of the training: warm up, stay, fall to zero in a straight line."""
    return min(1.0, done / WARM_UP, max(0.0, 1 - done) / DECAY)


def loss_of(net, tokens, weight):
    """(weighted mean loss, right answers [B,S-1])."""
    logits = net.logits(net(tokens)[:, :-1]).float()
    target = tokens[:, 1:]
    loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view_as(target)
    weight = weight[:, 1:].float()
    return (loss * weight).sum() / weight.sum(), logits.argmax(-1) == target


def accuracy(right, task):
    task = task[:, 1:]
    return {name: round(right[task == i].float().mean().item(), 4) for i, name in enumerate(tasks.TASKS) if (task == i).any()}


def train(net, stages, device, seconds, log):
    """One pass over the stages, or as much of it as `seconds` allow: the learning rate reaches zero either way."""
    optimizers = optimizer.make(net, LEARNING_RATE)
    steps, started = sum(-(-len(parts[0]) // batch) for _, batch, parts in stages), time.time()
    for step, (window, (tokens, task, weight)) in enumerate(batches(stages, device)):
        done = max((step + 1) / (steps + 1), (time.time() - started) / seconds)
        if done >= 1:
            break
        net.ops.window = window
        for group in (group for each in optimizers for group in each.param_groups):
            group["lr"] = LEARNING_RATE * rate(done)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss, right = loss_of(net, tokens.long(), weight)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for each in optimizers:
            each.step()
        net.zero_grad(set_to_none=True)
        if step % LOG_EVERY == 0:
            row = {"step": step, "length": tokens.shape[1], "seconds": round(time.time() - started, 1),
                   "loss": round(loss.item(), 4), **accuracy(right, task)}
            log.write(json.dumps(row) + "\n")
            log.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architecture", choices=model.ARCHITECTURES)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--start", type=pathlib.Path, help="weights to go on from, as an earlier training wrote them")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end by then, with the steps done so far")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    stages = load(arguments.data)
    pattern, variant = model.ARCHITECTURES[arguments.architecture]
    net = model.Model(model.Config(pattern, variant), attention.Fused if device.type == "cuda" else attention.Dense).to(device)
    if arguments.start:
        start_from(net, arguments.start)
    if device.type == "cuda":
        torch._dynamo.config.recompile_limit = 64
        for part in ("project", "finish"):
            setattr(model.Layer, part, torch.compile(getattr(model.Layer, part), dynamic=False))
    with open(arguments.out.with_suffix(".jsonl"), "w") as log:
        train(net, stages, device, arguments.seconds, log)
    torch.save({name: weight.bfloat16() for name, weight in net.state_dict().items()}, arguments.out)


if __name__ == "__main__":
    main()
