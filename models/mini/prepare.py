#!/usr/bin/env python3
"""Writes the training sequences of every stage, the same for all architectures: prepare.py FOLDER [--mix kin]"""

import argparse
import functools
import json
import multiprocessing
import pathlib

import numpy as np

import corpus
import tasks

# Stages of (length, sequences a step, steps, window, block, share that is not prose; None: any). Short ones first, so that
# retrieval emerges soon. Window and block shrink with the length, so that a token always chooses a quarter of all blocks.
STAGES = [(512, 64, 1500, 32, 8, 0.9), (1024, 32, 800, 64, 16, None), (4096, 8, 1300, 128, 64, None)]
SEED = 5
LISTING = "stages.json"
PARTS = ("tokens", "task", "weight", "asked", "path")
LESSONS = 3  # hops that layers in between are taught; the last is the answer itself
_SHARD = 256


@functools.cache
def _prose():
    return corpus.Corpus(held_out=False)


def lessons(sequence, most):
    """Where something is looked up [most] int16 (0: nothing), and what the 1st … 3rd hop from there leads to [most,3]; a chain
    that is shorter stays at its end."""
    asked, path = np.zeros(most, np.int16), np.zeros((most, LESSONS), np.int16)
    looks = [(at - question.answer.start + where, targets) for at, question in sequence.questions
             for where, targets in question.looks]
    for i, (at, targets) in enumerate(looks[:most]):
        asked[i], path[i] = at, [targets[min(hop, len(targets) - 1)] for hop in range(LESSONS)]
    return asked, path


def _shard(job):
    length, loop, density, mix, first, count = job
    rows = [tasks.make(np.random.default_rng([SEED, length, i]), _prose(), length, density, loop, mix)
            for i in range(first, first + count)]
    asked, path = zip(*(lessons(row, length // 8) for row in rows))
    return [*(np.stack([getattr(row, part) for row in rows]) for part in PARTS[:3]), np.stack(asked), np.stack(path)]


def write(folder, length, loop, density, mix, count, pool):
    jobs = [(length, loop, density, mix, first, min(_SHARD, count - first)) for first in range(0, count, _SHARD)]
    parts = zip(*pool.imap(_shard, jobs))
    for name, shards in zip(PARTS, parts):
        np.save(folder / f"{length}.{name}.npy", np.concatenate(shards))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the steps")
    parser.add_argument("--mix", choices=tasks.MIXES, default="main", help="of tasks")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    stages = [(length, batch, max(1, round(steps * arguments.scale)), window, block, density)
              for length, batch, steps, window, block, density in STAGES]
    with multiprocessing.Pool() as pool:
        for length, batch, steps, window, _, density in stages:
            write(arguments.folder, length, window, density, arguments.mix, batch * steps, pool)
    # Last, so that a folder with this file is complete.
    listing = [[length, batch, window, block] for length, batch, _, window, block, _ in stages]
    (arguments.folder / LISTING).write_text(json.dumps(listing))


if __name__ == "__main__":
    main()
